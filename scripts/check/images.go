package main

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/scripts/internal/labimage"
)

// images are what every registry of the checks has: NAME, or NAME:TAG. Those that are
// bad are bad in themselves; what goes wrong on the way is a fault of the registry.
var images = map[string]func() (v1.Image, error){
	"lab":        labimage.Lab,
	"lab-layers": labimage.Layers,
	"lab-deep":   labimage.Deep,

	"lab:" + strings.Repeat("t", 128): labimage.Lab, // the longest tag that there may be

	// How layers come.
	"zstd":         func() (v1.Image, error) { return onLab(compression.ZStd, file("packed", "zstd\n")) },
	"uncompressed": func() (v1.Image, error) { return onLab(compression.None, file("packed", "none\n")) },
	"big":          layers(layer{file("big", strings.Repeat("gocker!\n", 8<<20))}),
	"not-a-tar": func() (v1.Image, error) {
		return onLabRaw(compression.GZip, []byte(strings.Repeat("this is no tar archive. ", 100)))
	},
	"cut-tar": func() (v1.Image, error) {
		content, err := labimage.Tar(file("file", strings.Repeat("x", 2000)))
		if err != nil {
			return nil, err
		}
		return onLabRaw(compression.GZip, content[:1024])
	},
	"wrong-diffid":    diffIDs(func(ids []v1.Hash) []v1.Hash { ids[1].Hex = strings.Repeat("0", 64); return ids }),
	"too-few-diffids": diffIDs(func(ids []v1.Hash) []v1.Hash { return ids[:1] }),

	// What the configuration says.
	"configured": configured(func(c *v1.Config) {
		c.Entrypoint, c.Cmd = []string{"echo", "entrypoint"}, []string{"cmd"}
	}),
	"environment": configured(func(c *v1.Config) {
		c.Cmd = []string{"sh", "-c", "env"}
		c.Env = append(c.Env, "COLOUR=blue", "HOME=/srv")
		c.WorkingDir = "/srv/made/by/gocker"
	}),
	"no-command": configured(func(c *v1.Config) { c.Cmd = nil }),
	"own-path":   configured(func(c *v1.Config) { c.Env = []string{"PATH=/usr/bin:/bin", "HOSTNAME=image", "TERM=image"} }),

	"steering": configured(func(c *v1.Config) { // a Go program that has these says a lot, or ends
		c.Env = append(c.Env, "GODEBUG=inittrace=1", "GOMEMLIMIT=nonsense", "LD_PRELOAD=/nonesuch.so")
	}),
	"another-home": func() (v1.Image, error) {
		return onLab(compression.GZip, file("etc/passwd", "toor:x:0:0:root:/var/tmp:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n"))
	},
	"user-nobody": user("nobody"), "user-1000": user("1000"), "user-0-1000": user("0:1000"), "user-nogroup": user(":nogroup"),
	"user-0": user("0"), "user-root": user("root"), "user-0-0": user("0:0"), "user-root-root": user("root:root"),
	"workdir-link": func() (v1.Image, error) {
		img, err := onLab(compression.GZip, symlink("out", "/proc/self/fd/9"))
		if err != nil {
			return nil, err
		}
		return labimage.Image(img, func(c *v1.Config) { c.WorkingDir = "/out" })
	},
	"workdir-up": func() (v1.Image, error) {
		img, err := onLab(compression.GZip, symlink("out", "../../../../../../run/outside"))
		if err != nil {
			return nil, err
		}
		return labimage.Image(img, func(c *v1.Config) { c.WorkingDir = "/out" })
	},

	// What only a complete engine knows.
	"users": func() (v1.Image, error) {
		return onLab(compression.GZip,
			file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nlea:x:1000:1000::/home/lea:/bin/sh\n"),
			file("etc/group", "root:x:0:\nlea:x:1000:\nstaff:x:2000:lea\n"), dir("home/lea", 0o755))
	},
	"volumes": func() (v1.Image, error) {
		img, err := onLab(compression.GZip, dir("data", 0o750), file("data/file", "from the image\n"), symlink("data/link", "file"),
			labimage.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "data/owned", Mode: 0o640, Uid: 1000, Gid: 2000}})
		if err != nil {
			return nil, err
		}
		return labimage.Image(img, func(c *v1.Config) { c.Volumes = map[string]struct{}{"/data": {}} })
	},
	"stop-signal": configured(func(c *v1.Config) { c.StopSignal = "SIGUSR1" }),
	"labelled":    configured(func(c *v1.Config) { c.Labels = map[string]string{"colour": "blue"} }),
	"exposed": configured(func(c *v1.Config) {
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}}
	}),
	"links-out": func() (v1.Image, error) { // for whoever mounts or copies something there
		return onLab(compression.GZip, symlink("absolute", "/run/outside"), symlink("climbing", "../../../../../../run/outside"),
			symlink("file", "/run/outside/file"), symlink("self", "/proc/self/fd/9"))
	},

	"linked-etc": func() (v1.Image, error) {
		return onLab(compression.GZip, symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
			symlink("etc/hosts", "/nowhere/hosts"))
	},

	// A layer's root is "/", wherever its names and links seem to lead.
	"rooted": layers(layer{
		file("srv/file", "hard links\n"), symlink("srv/link", "file"),
		symlink("from-below", "/run/outside"), file("run/outside/deleted", "must not be seen\n"),
	}, layer{
		file("/absolute", "absolute\n"),
		file("../../up", "up\n"),
		file("../../run/outside/dotdot", "dotdot\n"),
		symlink("link", "/run/outside"), file("link/link", "link\n"),
		symlink("climbing", "../../../../../../../../run/outside"), file("climbing/climbing", "climbing\n"),
		// Go's os.Root once followed a link to a link if a slash ended its target.
		symlink("slash", "climbing/"),
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "slash/null", Devmajor: 1, Devminor: 3}},
		file("from-below/from-below", "from-below\n"),
		symlink("not-yet", "/not/yet/there"), file("not-yet/file", "not-yet\n"),
		file("link/.wh.deleted", ""),
		symlink("replaced", "/run/outside/file"), file("replaced", "replaced\n"),
		labimage.Link("srv/absolute", "/srv/file"),
		labimage.Link("srv/climbing", "../../../srv/file"),
		symlink("via", "/srv"), labimage.Link("srv/via", "via/file"),
		labimage.Link("srv/to-link", "srv/link"),
	}),
	"hardlink-out":     layers(layer{labimage.Link("stolen", "/run/outside/file")}),
	"hardlink-up":      layers(layer{labimage.Link("stolen", "../../../../../../../../../run/outside/file")}),
	"hardlink-via-out": layers(layer{symlink("link", "/run/outside"), labimage.Link("stolen", "link/file")}),

	// Links take places of directories, and directories of links.
	"links-and-directories": layers(layer{
		file("t/a/old/1", ""), file("t/a/new/1", ""), file("t/a/new/2", ""),
		file("t/b/a/1", ""), file("t/b/b/1", ""),
		file("t/c/a/1", ""), file("t/c/b/1", ""),
		symlink("t/d/a", "b"), file("t/d/b/1", ""),
		file("t/e/a/1", ""), file("t/e/b/1", ""),
		file("t/f/a/1", ""), file("t/f/b/1", ""),
	}, layer{
		file("t/a/new/3", ""), file("t/a/.wh.old", ""), symlink("t/a/old", "new"),
		file("t/b/.wh.a", ""), symlink("t/b/a", "b"), dir("t/b/b", 0o755),
		symlink("t/c/a", "b"),
		dir("t/d/a", 0o755), file("t/d/a/2", ""),
		dir("t/e/a", 0o755), file("t/e/a/.wh..wh..opq", ""), file("t/e/.wh.a", ""), symlink("t/e/a", "b"), file("t/e/b/2", ""),
		symlink("t/f/a", "b"), file("t/f/a/2", ""),
	}),

	// Whiteouts.
	"whiteouts": layers(layer{
		file("t/after/old", ""), file("t/after/sub/old", ""),
		file("t/again/old", ""),
		file("t/back/file", "must not be seen\n"),
		file("t/before/old", ""), file("t/before/sub/old", ""),
		file("t/children/old", ""),
		file("t/file-and-back/old", ""),
		file("t/merged/old", ""),
		file("t/nothing/old", ""),
		file("t/twice/file", ""),
	}, layer{
		dir("t/after", 0o755), file("t/after/new", ""), dir("t/after/sub", 0o755), file("t/after/sub/new", ""), file("t/after/.wh..wh..opq", ""),
		file("t/.wh.again", ""), dir("t/again", 0o755), file("t/again/new", ""),
		file("t/back/.wh.file", ""), file("t/back/file", "new\n"),
		dir("t/before", 0o755), file("t/before/.wh..wh..opq", ""), file("t/before/new", ""), file("t/before/sub/new", ""),
		file("t/.wh.children", ""), file("t/children/new", ""),
		file("t/file-and-back", ""), dir("t/file-and-back", 0o755), file("t/file-and-back/new", ""),
		dir("t/merged", 0o755), file("t/merged/new", ""),
		file("t/nothing/.wh.nothing", ""), file("t/no/where/.wh.nothing", ""),
		file("t/twice/.wh.file", ""), file("t/twice/.wh.file", ""),
	}, layer{
		dir("t/after", 0o755), file("t/after/newer", ""),
		dir("t/again", 0o755), file("t/again/newer", ""),
		dir("t/before", 0o755), file("t/before/newer", ""),
		dir("t/children", 0o755), file("t/children/newer", ""),
		dir("t/file-and-back", 0o755), file("t/file-and-back/newer", ""),
		dir("t/merged", 0o755), file("t/merged/newer", ""),
	}),
	"opaque-root":     layers(layer{file("file", "")}, layer{file("before", ""), file(".wh..wh..opq", ""), file("after", "")}),
	"whiteout-empty":  layers(layer{file("etc/.wh.", "")}),
	"whiteout-dot":    layers(layer{file("etc/.wh..", "")}),
	"whiteout-dotdot": layers(layer{file("etc/.wh...", "")}),
	"whiteout-top":    layers(layer{file(".wh...", "")}),

	// What tools write.
	"dot-slash": layers(layer{
		file("srv/deleted", ""),
	}, layer{
		dir("./", 0o755), dir("./srv", 0o750), file("./srv/file", "dot-slash\n"), labimage.Link("./srv/hard", "./srv/file"),
		file("./srv/.wh.deleted", ""),
	}),
	"slash": layers(layer{
		file("srv/deleted", ""),
	}, layer{
		dir("/", 0o755), dir("/srv", 0o750), file("/srv/file", "slash\n"), labimage.Link("/srv/hard", "/srv/file"),
		file("/srv/.wh.deleted", ""),
	}),
	"kaniko": layers(layer{
		file("srv/a/deleted", ""),
	}, layer{
		file("srv/a/b/file", "kaniko\n"), file("srv/a/.wh.deleted", ""),
	}),
	"git-archive": layers(layer{
		{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header",
			PAXRecords: map[string]string{"comment": strings.Repeat("0", 40)}}},
		dir("srv", 0o775), file("srv/file", "git archive\n"),
	}),
	"bsdtar": layers(layer{
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "srv/capable", Mode: 0o755, PAXRecords: map[string]string{
			"LIBARCHIVE.xattr.security.capability": "AQAAAgAEAAAAAAAAAAAAAAAAAAA", // base64
			"LIBARCHIVE.creationtime":              "1767323045",
			"SCHILY.xattr.security.capability":     capNetBindService,
			"SCHILY.fflags":                        "nodump",
		}}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "srv/link", Linkname: "capable", PAXRecords: map[string]string{
			"SCHILY.xattr.user.comment": "the kernel lets no link have it",
		}}},
	}),
	"gnu-tar": gnuTar,
	"aufs": layers(layer{
		file(".wh..wh.aufs", ""), dir(".wh..wh.orph", 0o700), dir(".wh..wh.plnk", 0o700),
		file(".wh..wh.plnk/17.42", "aufs\n"), labimage.Link("srv/one", ".wh..wh.plnk/17.42"), labimage.Link("srv/two", ".wh..wh.plnk/17.42"),
	}, layer{
		file(".wh..wh.aufs", ""), dir(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/17.43", "the second\n"), labimage.Link("srv/three", ".wh..wh.plnk/17.43"),
	}),
	"named-twice": layers(layer{
		file("srv/lower", "lower\n"),
	}, layer{
		labimage.Link("srv/early", "srv/lower"), file("srv/lower", "upper\n"),
		file("srv/file", "first\n"), labimage.Link("srv/link", "srv/file"), file("srv/file", "last\n"),
		dir("srv/dir", 0o700), file("srv/dir/file", "kept\n"), dir("srv/dir", 0o755),
		symlink("srv/symlink", "first"), symlink("srv/symlink", "last"),
	}),
	"device-0-0": layers(layer{
		file("srv/file", "not deleted\n"), file("srv/dir/file", "not deleted\n"),
	}, layer{
		device00("srv/file"), device00("srv/dir"), device00("srv/new"), file("srv/last", "unpacked\n"),
	}),
	"overlay-attributes": layers(layer{
		file("srv/dir/old", "not hidden\n"), file("etc/moved/file", "not here\n"),
		file("srv/file", "not deleted\n"),
	}, layer{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "srv/dir/", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.opaque": "y"}}},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "srv/redirected/", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.redirect": "/etc/moved"}}},
	}),

	"setuid": layers(layer{labimage.File("srv/setuid", 0o4755, "#!/bin/sh\necho I run as another user\n")}),

	// What a layer does not list.
	"unlisted-parents": layers(layer{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "srv/", Mode: 0o2710, Uid: 12, Gid: 34,
			PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_default": privateACL()}}},
	}, layer{
		file("tmp/file", ""), file("srv/file", ""),
	}),
	"over-1777": layers(layer{dir("drop", 0o1777)}, layer{file("drop/file", "")}),
	"over-700":  layers(layer{dir("drop", 0o700)}, layer{file("drop/file", "")}),

	"same-layer-twice": layers(layer{}, layer{}, layer{file("srv/file", "first\n")}, layer{file("srv/file", "second\n")},
		layer{file("srv/file", "first\n")}),
	"no-layers": func() (v1.Image, error) { return labimage.Image(scratch(), nil) },
}

// And those whose working directory is one of the files that gocker may have open.
func init() {
	for fd := range 24 {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		images[fmt.Sprintf("workdir-fd-%d", fd)] = configured(func(c *v1.Config) { c.WorkingDir = dir })
	}
}

// indexes are what every registry has beside images.
var indexes = map[string]func() (v1.ImageIndex, error){
	// The right one comes last, but for one that is just as right.
	"platforms": index(
		entry{platform: &v1.Platform{OS: "linux", Architecture: foreign()}},
		entry{platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH, Variant: unusual()}},
		entry{platform: &v1.Platform{OS: "windows", Architecture: runtime.GOARCH}},
		entry{platform: &v1.Platform{OS: "linux", Architecture: lesser()}},
		entry{platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, artifact: "application/vnd.oci.image.config.v1+json"},
		entry{artifact: "application/vnd.example.config+json"},
		entry{artifact: "application/vnd.example.config+json", platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}},
		entry{artifact: "application/vnd.example.config+json", platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, config: runtime.GOARCH},
		entry{config: foreign()},
		entry{config: runtime.GOARCH},
		entry{platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, right: true},
		entry{platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}},
	),
	"platform-unsaid": index(
		entry{artifact: "application/vnd.example.config+json"},
		entry{config: foreign()},
		entry{config: runtime.GOARCH, right: true},
		entry{config: runtime.GOARCH},
	),
	"platform-none": index(
		entry{artifact: "application/vnd.example.config+json"},
		entry{config: foreign()},
		entry{platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH, Variant: unusual()}},
	),
}

// foreign is an architecture whose programs this machine does not run, lesser one whose programs it
// may run but has better ones, and unusual a variant of its own that must be asked for.
func foreign() string { return map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH] }
func lesser() string  { return map[string]string{"amd64": "386", "arm64": "arm"}[runtime.GOARCH] }
func unusual() string { return map[string]string{"amd64": "v3", "arm64": "v9"}[runtime.GOARCH] }

// scratch is an image without layers.
func scratch() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// An entry is one of an index.
type entry struct {
	platform *v1.Platform // what the index says that it is for, if anything
	config   string       // the architecture that its configuration says; if empty, the one of platform
	artifact string       // what is no image has a configuration of this type
	right    bool         // it is the one to take
}

// index is one with entries. The right one is lab with PLATFORM=right in its environment.
func index(entries ...entry) func() (v1.ImageIndex, error) {
	return func() (v1.ImageIndex, error) {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for i, entry := range entries {
			img, err := configured(func(c *v1.Config) {
				c.Env = append(c.Env, fmt.Sprintf("PLATFORM=wrong-%d", i))
				if entry.right {
					c.Env = append(c.Env, "PLATFORM=right")
				}
			})()
			if err != nil {
				return nil, err
			}
			architecture := entry.config
			if architecture == "" && entry.platform != nil {
				architecture = entry.platform.Architecture
			}
			if img, err = withArchitecture(img, architecture); err != nil {
				return nil, err
			}
			if entry.artifact != "" {
				if img, err = withArchitecture(scratch(), entry.config); err != nil {
					return nil, err
				}
				img = mutate.ConfigMediaType(img, types.MediaType(entry.artifact))
				img, err = mutate.AppendLayers(img, static.NewLayer([]byte("{}"), "application/vnd.example+json"))
				if err != nil {
					return nil, err
				}
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: entry.platform}})
		}
		return index, nil
	}
}

// withArchitecture is img, whose configuration says that it is for architecture.
func withArchitecture(img v1.Image, architecture string) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture = architecture
	config.OS = "linux"
	return mutate.ConfigFile(img, config)
}

// A layer is what is in it, in this order.
type layer []labimage.Entry

// These make entries of layers, as do those in labimage.
var dir, symlink = labimage.Dir, labimage.Symlink

func file(name, content string) labimage.Entry { return labimage.File(name, 0o644, content) }

// device00 is a character device that overlayfs would take for a deleted file.
func device00(name string) labimage.Entry {
	return labimage.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666}}
}

// capNetBindService is cap_net_bind_service=ep: struct vfs_cap_data, revision 2, in
// linux/capability.h.
const capNetBindService = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// privateACL is the value of the extended attribute of a directory in which new files are
// their owner's only, whatever the umask is: acl(5).
func privateACL() string {
	value := binary.LittleEndian.AppendUint32(nil, 2)                                        // POSIX_ACL_XATTR_VERSION
	for _, e := range []struct{ tag, permissions uint16 }{{0x01, 7}, {0x04, 0}, {0x20, 0}} { // owner, group, others
		value = binary.LittleEndian.AppendUint16(value, e.tag)
		value = binary.LittleEndian.AppendUint16(value, e.permissions)
		value = binary.LittleEndian.AppendUint32(value, 0xffffffff) // nobody in particular
	}
	return string(value)
}

// configured is the lab image with another configuration.
func configured(configure func(*v1.Config)) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		lab, err := labimage.Lab()
		if err != nil {
			return nil, err
		}
		return labimage.Image(lab, configure)
	}
}

// user is the lab image whose commands are to run as the user name.
func user(name string) func() (v1.Image, error) {
	return configured(func(c *v1.Config) { c.User = name })
}

// diffIDs is an image of two layers whose configuration lists others.
func diffIDs(change func([]v1.Hash) []v1.Hash) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		img, err := onLab(compression.GZip, file("file", "content"))
		if err != nil {
			return nil, err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		config = config.DeepCopy()
		config.RootFS.DiffIDs = change(config.RootFS.DiffIDs)
		return mutate.ConfigFile(img, config)
	}
}

// layers is the lab image with more layers.
func layers(more ...layer) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		img, err := labimage.Lab()
		if err != nil {
			return nil, err
		}
		for _, entries := range more {
			content, err := labimage.Tar(entries...)
			if err != nil {
				return nil, err
			}
			layer, err := labimage.Layer(content, compression.GZip)
			if err != nil {
				return nil, err
			}
			if img, err = labimage.Image(img, nil, layer); err != nil {
				return nil, err
			}
		}
		return img, nil
	}
}

// onLab is the lab image with one layer more.
func onLab(with compression.Compression, entries ...labimage.Entry) (v1.Image, error) {
	content, err := labimage.Tar(entries...)
	if err != nil {
		return nil, err
	}
	return onLabRaw(with, content)
}

// onLabRaw is the lab image with a layer of content, which need not be a tar.
func onLabRaw(with compression.Compression, content []byte) (v1.Image, error) {
	layer, err := labimage.Layer(content, with)
	if err != nil {
		return nil, err
	}
	lab, err := labimage.Lab()
	if err != nil {
		return nil, err
	}
	return labimage.Image(lab, nil, layer)
}

// gnuTar is the lab image with two layers as GNU tar writes them, in the format of its own and
// in that of POSIX: with names longer than a header has room for, hard links and a sparse file.
func gnuTar() (v1.Image, error) {
	img, err := labimage.Lab()
	if err != nil {
		return nil, err
	}
	for _, format := range []string{"gnu", "posix"} {
		top, err := os.MkdirTemp("", "gnu-tar-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(top)
		dir := filepath.Join(top, "srv", format)
		long := strings.Repeat("long", 50)
		err = os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, long), []byte(format+"\n"), 0o644)
		}
		if err == nil {
			err = os.Link(filepath.Join(dir, long), filepath.Join(dir, "hard"))
		}
		if err == nil {
			err = os.Symlink(strings.Repeat("./", 60)+long, filepath.Join(dir, "symbolic"))
		}
		if err == nil && format == "posix" { // containerd does not take the other one's
			err = os.WriteFile(filepath.Join(dir, "sparse"), []byte("begins"), 0o644)
			if err == nil {
				err = os.Truncate(filepath.Join(dir, "sparse"), 3<<20)
			}
		}
		if err != nil {
			return nil, err
		}
		content, err := exec.Command("tar", "--format="+format, "--sparse", "--owner=0", "--group=0",
			"-C", top, "-c", "./srv").Output()
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		layer, err := labimage.Layer(content, compression.GZip)
		if err != nil {
			return nil, err
		}
		if img, err = labimage.Image(img, nil, layer); err != nil {
			return nil, err
		}
	}
	return img, nil
}
