// Package labimage makes the images that gocker is tried on where there is no
// internet: a busybox root file system, and two that are hard to get right.
package labimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Images are the images of the lab by name.
var Images = map[string]func() (v1.Image, error){
	"lab":        Lab,
	"lab-layers": Layers,
	"lab-deep":   Deep,
}

// date is the time that every file and image here has, so that an image that is
// made twice has the same digest.
var date = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// An Entry is a file in a layer. In Header, Name and what the type needs must be
// set; a zero Typeflag means a regular file with Content.
type Entry struct {
	tar.Header
	Content string
}

// Dir is a directory with the permissions mode, as chmod(1) takes them.
func Dir(name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

// File is a regular file, or a whiteout, which is one with a special name.
func File(name string, mode int64, content string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content}
}

// Symlink is a symbolic link to target.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// Link is a hard link to the file target of the same layer, with permissions 644: like tar(1)
// it says once more what the file has.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

// Tar returns entries as an uncompressed tar archive.
func Tar(entries ...Entry) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, entry := range entries {
		header := entry.Header
		header.Size = int64(len(entry.Content))
		header.Format = tar.FormatPAX
		if header.ModTime.IsZero() && header.Typeflag != tar.TypeXGlobalHeader { // which has none
			header.ModTime = date
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, entry.Content); err != nil {
			return nil, err
		}
	}
	return archive.Bytes(), w.Close()
}

// Layer returns content, by right a tar archive, as a layer compressed with one
// of gzip, zstd and none.
func Layer(content []byte, with compression.Compression) (v1.Layer, error) {
	mediaType := map[compression.Compression]types.MediaType{
		compression.GZip: types.OCILayer,
		compression.ZStd: types.OCILayerZStd,
		compression.None: types.OCIUncompressedLayer,
	}[with]
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompression(with), tarball.WithMediaType(mediaType), tarball.WithCompressedCaching)
}

// Image returns an image for this machine's architecture with layers over those
// of base and, if it is not nil, a changed configuration.
func Image(base v1.Image, configure func(*v1.Config), layers ...v1.Layer) (v1.Image, error) {
	var addenda []mutate.Addendum
	for _, layer := range layers {
		mediaType, err := layer.MediaType()
		if err != nil {
			return nil, err
		}
		addenda = append(addenda, mutate.Addendum{
			Layer:     layer,
			MediaType: mediaType,
			History:   v1.History{Created: v1.Time{Time: date}, CreatedBy: "scripts/lab"},
		})
	}
	img, err := mutate.Append(base, addenda...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", runtime.GOARCH, v1.Time{Time: date}
	if configure != nil {
		configure(&file.Config)
	}
	return mutate.ConfigFile(img, file)
}

// scratch is an OCI image without layers.
func scratch() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// add is Image with one gzip layer of entries.
func add(base v1.Image, configure func(*v1.Config), entries ...Entry) (v1.Image, error) {
	content, err := Tar(entries...)
	if err != nil {
		return nil, err
	}
	layer, err := Layer(content, compression.GZip)
	if err != nil {
		return nil, err
	}
	return Image(base, configure, layer)
}

// Lab is busybox, the host's static one, with the files that programs expect. It
// is built once in a process: it is under nearly every other image.
var Lab = sync.OnceValues(lab)

func lab() (v1.Image, error) {
	content, applets, err := busybox()
	if err != nil {
		return nil, err
	}
	entries := []Entry{
		Dir("bin", 0o755), Dir("dev", 0o755), Dir("etc", 0o755), Dir("home", 0o755), Dir("mnt", 0o755),
		Dir("proc", 0o555), Dir("root", 0o700), Dir("run", 0o755), Dir("sbin", 0o755), Dir("sys", 0o555),
		Dir("tmp", 0o1777), Dir("usr", 0o755), Dir("usr/bin", 0o755), Dir("usr/sbin", 0o755),
		Dir("var", 0o755), Dir("var/tmp", 0o1777),
		File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		File("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
		File("etc/os-release", 0o644, "ID=lab\nPRETTY_NAME=\"gocker lab (busybox)\"\n"),
		File("bin/busybox", 0o755, content),
	}
	for _, applet := range applets {
		entries = append(entries, Symlink(applet, "/bin/busybox"))
	}
	return add(scratch(), func(c *v1.Config) {
		c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		c.Cmd = []string{"sh"}
	}, entries...)
}

// busybox returns the host's static busybox and the paths, without a leading
// slash, under which it wants to be linked.
func busybox() (content string, applets []string, err error) {
	for _, file := range []string{"/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static", "/usr/lib/initcpio/busybox"} {
		list, err := exec.Command(file, "--list-full").Output()
		if err != nil {
			continue
		}
		for _, applet := range strings.Fields(string(list)) {
			if path.Base(applet) != "busybox" {
				applets = append(applets, strings.TrimPrefix(applet, "/"))
			}
		}
		content, err := os.ReadFile(file)
		return string(content), applets, err
	}
	return "", nil, errors.New("no static busybox on this machine; Debian and Ubuntu have it in the package busybox-static")
}

// Layers is Lab with everything that a layer can hold, and layers that take
// parts of it away again.
func Layers() (v1.Image, error) {
	img, err := Lab()
	if err != nil {
		return nil, err
	}
	// cap_net_bind_service=ep: struct vfs_cap_data, revision 2, in linux/capability.h.
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	layers := [][]Entry{
		{
			Dir("t", 0o750),
			File("t/kept", 0o644, "from layer 1\n"),
			File("t/changed", 0o644, "from layer 1\n"),
			File("t/deleted", 0o644, "must not be seen\n"),
			Dir("t/deleted-dir", 0o755), File("t/deleted-dir/file", 0o644, "must not be seen\n"),
			Dir("t/opaque", 0o755), File("t/opaque/old", 0o644, "must not be seen\n"),
			Dir("t/opaque/olddir", 0o755), File("t/opaque/olddir/file", 0o644, "must not be seen\n"),
			Dir("t/dir-then-file", 0o755), File("t/dir-then-file/file", 0o644, "must not be seen\n"),
			File("t/file-then-dir", 0o644, "must not be seen\n"),
			Dir("t/dir-then-dir", 0o755), File("t/dir-then-dir/old", 0o644, "must not be seen\n"),
			File("t/deleted-and-back", 0o644, "must not be seen\n"),
		},
		{
			Dir("t", 0o750),
			File("t/changed", 0o600, "from layer 2\n"),
			File("t/.wh.deleted", 0, ""),
			File("t/.wh.deleted-dir", 0, ""),
			// Opaque, with the whiteout after what the same layer brings.
			Dir("t/opaque", 0o755), File("t/opaque/new", 0o644, "from layer 2\n"), File("t/opaque/.wh..wh..opq", 0, ""),
			File("t/dir-then-file", 0o644, "from layer 2\n"),
			Dir("t/file-then-dir", 0o755), File("t/file-then-dir/file", 0o644, "from layer 2\n"),
			// A whiteout and a directory of the same name in one layer.
			File("t/.wh.dir-then-dir", 0, ""), Dir("t/dir-then-dir", 0o755), File("t/dir-then-dir/new", 0o644, "from layer 2\n"),
			File("t/.wh.deleted-and-back", 0, ""),
		},
		{
			Dir("t", 0o750),
			File("t/deleted-and-back", 0o644, "from layer 3\n"),
			File("t/target", 0o644, "one file, two names\n"), Link("t/hardlink", "t/target"),
			Symlink("t/absolute", "/t/kept"), Symlink("t/relative", "../t/kept"), Symlink("t/dangling", "/nowhere"),
			File("t/setuid", 0o4755, "#!/bin/sh\n"), File("t/setgid", 0o2755, "#!/bin/sh\n"), Dir("t/sticky", 0o1777),
			{Header: tar.Header{Typeflag: tar.TypeReg, Name: "t/owned", Mode: 0o640, Uid: 1234, Gid: 5678}},
			{Header: tar.Header{Typeflag: tar.TypeReg, Name: "t/old", Mode: 0o644, ModTime: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)}},
			{Header: tar.Header{Typeflag: tar.TypeDir, Name: "t/olddir/", Mode: 0o755, ModTime: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)}},
			File("t/olddir/new", 0o644, ""),
			{Header: tar.Header{Typeflag: tar.TypeChar, Name: "t/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
			{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "t/fifo", Mode: 0o600}},
			{Header: tar.Header{Typeflag: tar.TypeReg, Name: "t/capable", Mode: 0o755,
				PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}},
			File("t/"+strings.Repeat("long", 50), 0o644, "a name of 200 bytes\n"),
			File("t/Grüße-世界", 0o644, "not ASCII\n"),
			File("no/parents/listed", 0o644, "made on the way\n"),
		},
	}
	for _, entries := range layers {
		if img, err = add(img, nil, entries...); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// Deep is Lab under as many layers as docker allows, 128 with its own. Each of
// them brings a file, changes another and deletes the file of the one before.
func Deep() (v1.Image, error) {
	img, err := Lab()
	if err != nil {
		return nil, err
	}
	for i := 2; i <= 128; i++ {
		img, err = add(img, nil, Dir("deep", 0o755),
			File("deep/top", 0o644, fmt.Sprintf("%d\n", i)),
			File(fmt.Sprintf("deep/%d", i), 0o644, ""),
			File(fmt.Sprintf("deep/.wh.%d", i-1), 0, ""))
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// Rootfs is an image of one layer from the tar archive of a root file system,
// such as debootstrap's result.
func Rootfs(open tarball.Opener) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	return Image(scratch(), func(c *v1.Config) {
		c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		c.Cmd = []string{"/bin/sh"}
	}, layer)
}
