package main

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

const storeDir = "/var/lib/gocker"

// layersDir has a directory for every layer, by its diffID, for all images.
const layersDir = storeDir + "/layers"

// layerDir is the directory of the layer diffID.
func layerDir(diffID v1.Hash) string { return filepath.Join(layersDir, diffID.Hex) }

// store unpacks layer, while it arrives, unless it is in layersDir already. That
// happens in the directory dir, and not before all of the layer is on disk it
// gets its place. Its compressed bytes are verified by go-containerregistry, the
// tar archive in them here: diffID is its SHA-256.
func store(layer v1.Layer, diffID v1.Hash, dir string) error {
	if _, err := os.Stat(layerDir(diffID)); err == nil {
		return nil
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	partial := filepath.Join(dir, diffID.Hex)
	if err := cmp.Or(os.MkdirAll(layersDir, 0o755), os.Mkdir(partial, 0o755)); err != nil {
		return err
	}
	u := &unpacker{brought: map[string]bool{}}
	if u.root, err = os.OpenRoot(partial); err != nil {
		return err
	}
	defer u.root.Close()
	sum := sha256.New()
	stream := io.TeeReader(content, sum)
	if err := u.unpack(tar.NewReader(stream)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // what follows the archive's end counts too
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != diffID.Hex {
		return fmt.Errorf("the digest of its content is sha256:%s", got)
	}
	top, err := u.root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := unix.Syncfs(int(top.Fd())); err != nil { // or a power cut could leave a tree of empty files
		return fmt.Errorf("syncfs: %w", err)
	}
	return os.Rename(partial, layerDir(diffID))
}

// An unpacker writes a layer into a directory and nowhere else: os.Root follows
// no link out of it (before Go 1.26.5 it did, to a target that ends in a slash),
// and the system calls used beside it follow none at all.
type unpacker struct {
	root    *os.Root
	brought map[string]bool // the paths at or under which the layer has a file
}

// unpack makes the files of archive: OCI image-spec, layer.md.
func (u *unpacker) unpack(archive *tar.Reader) error {
	dirs := map[string]*tar.Header{}
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		name := filepath.Clean(header.Name)
		if err := u.add(name, header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
		delete(dirs, name)
		if header.Typeflag == tar.TypeDir {
			dirs[name] = header
		}
	}
	var err error
	for name, header := range dirs { // again, for their times: every file made in them has changed those
		err = cmp.Or(err, u.add(name, header, nil))
	}
	return err
}

// add makes the file name, or applies the whiteout that it is.
func (u *unpacker) add(name string, header *tar.Header, content io.Reader) error {
	if !filepath.IsLocal(name) {
		return errors.New("its path leads out of the image")
	}
	dir, base := filepath.Dir(name), filepath.Base(name)
	if err := u.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	parent, err := u.root.OpenFile(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	for p := dir; !u.brought[p]; p = filepath.Dir(p) {
		u.brought[p] = true // ends at ".", whose Dir is "."
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok && hidden == ".wh..opq" {
		return u.hide(dir)
	} else if ok {
		return u.hide(filepath.Join(dir, hidden))
	}
	u.brought[name] = true
	err = u.create(parent, name, header, content)
	if errors.Is(err, fs.ErrExist) {
		if old, e := u.root.Lstat(name); e == nil && old.IsDir() && header.Typeflag == tar.TypeDir {
			err = nil
		} else if err = u.root.RemoveAll(name); err == nil {
			err = cmp.Or(u.create(parent, name, header, content), u.hide(name))
		}
	}
	if err != nil || header.Typeflag == tar.TypeLink {
		return err
	}
	return u.setMetadata(parent, name, header)
}

// hide leaves a mark by which overlayfs does not show what lower layers have at
// name: a device 0:0 or, at a directory that this layer has brought, an attribute.
func (u *unpacker) hide(name string) error {
	dir, base := filepath.Dir(name), filepath.Base(name)
	if u.brought[name] {
		dir, base = name, "."
	}
	parent, err := u.root.OpenFile(dir, unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return nil // this layer's file is all there is
	} else if err != nil {
		return err
	}
	defer parent.Close()
	if u.brought[name] {
		return unix.Fsetxattr(int(parent.Fd()), "trusted.overlay.opaque", []byte("y"), 0)
	}
	return unix.Mknodat(int(parent.Fd()), base, unix.S_IFCHR, 0)
}

// create makes the file name, which must not exist. Its directory is parent.
func (u *unpacker) create(parent *os.File, name string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return u.root.Mkdir(name, 0o755)
	case tar.TypeReg, tar.TypeGNUSparse:
		file, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		return cmp.Or(err, file.Close())
	case tar.TypeSymlink:
		return u.root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return u.root.Link(filepath.Clean(header.Linkname), name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		mode := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}
		device := int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor)))
		return unix.Mknodat(int(parent.Fd()), filepath.Base(name), mode[header.Typeflag], device)
	}
	return fmt.Errorf("unknown type of tar entry %q", header.Typeflag)
}

// setMetadata gives the file name its owner, mode, extended attributes and times.
// In this order: a change of owner drops setuid bits and file capabilities.
func (u *unpacker) setMetadata(parent *os.File, name string, header *tar.Header) error {
	err := u.root.Lchown(name, header.Uid, header.Gid)
	if header.Typeflag != tar.TypeSymlink { // a symbolic link has no mode of its own
		err = cmp.Or(err, u.root.Chmod(name, header.FileInfo().Mode()))
	}
	for key, value := range header.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") { // overlayfs's own, not for a layer to say
			continue
		}
		path := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), filepath.Base(name))
		if e := unix.Lsetxattr(path, attr, []byte(value), 0); e != nil && e != unix.EOPNOTSUPP {
			err = cmp.Or(err, fmt.Errorf("setxattr %s: %w", attr, e))
		}
	}
	mtime, e := unix.TimeToTimespec(header.ModTime)
	return cmp.Or(err, e, unix.UtimesNanoAt(int(parent.Fd()), filepath.Base(name), []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW))
}
