package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// capability is the one extended attribute that is copied, as by docker: capabilities(7). In a tar
// archive it has this name.
const (
	capabilityAttr   = "security.capability"
	capabilityRecord = "SCHILY.xattr." + capabilityAttr
)

// A treeWriter writes a tar archive of what is in dir.
type treeWriter struct {
	dir    *os.Root
	tar    *tar.Writer
	seen   map[[2]uint64]string // by device and inode, what has more than one name: the first one
	hidden map[uint64]bool      // by device, the file systems that are the kernel's: see kernelMounts
}

// errVanished is the error for what is not there, or not any more.
var errVanished = errors.New("no such file in the container")

// writeTree writes to w a tar archive of name, a path in the directory root, and all that is in it.
// The names in it begin with the last element of name, as docker's do. Links are not followed but
// on the way to name, and do not lead out.
func writeTree(root int, name string, isDir bool, w io.Writer) error {
	dir, base := name, "."
	as := filepath.Base(name) // also of "/" and of "x/.", which are "/" and "."
	if !isDir {
		dir, base = filepath.Split(name)
	}
	fd, err := openInRoot(root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	opened, err := os.OpenRoot(fdPath(fd))
	if err != nil {
		return err
	}
	defer opened.Close()
	hidden, err := kernelMounts(root)
	if err != nil {
		return err
	}
	t := &treeWriter{dir: opened, tar: tar.NewWriter(w), seen: map[[2]uint64]string{}, hidden: hidden}
	if err := t.write(base, as); err != nil {
		return err
	}
	return t.tar.Close()
}

// kernelMounts returns the devices of what is mounted on /proc, /sys and /dev in root. As with
// docker, nothing in them is copied: /proc/kcore is as large as the kernel's addresses reach.
func kernelMounts(root int) (map[uint64]bool, error) {
	var top unix.Stat_t
	if err := unix.Fstat(root, &top); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	hidden := map[uint64]bool{}
	for _, name := range []string{"/proc", "/sys", "/dev"} {
		stat, err := lstatInRoot(root, name)
		if err == nil && isType(stat, unix.S_IFDIR) && stat.Dev != top.Dev {
			hidden[uint64(stat.Dev)] = true
		}
	}
	return hidden, nil
}

// write writes name, and what is in it, as as.
func (t *treeWriter) write(name, as string) error {
	info, err := t.dir.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return errVanished
	}
	if err != nil {
		return err
	}
	hidden := t.hidden[uint64(info.Sys().(*syscall.Stat_t).Dev)]
	if hidden && !info.IsDir() {
		return errVanished
	}
	if info.Mode().Type() == fs.ModeSocket {
		return nil // of no use without the process that listens
	}
	link := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if link, err = t.dir.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = as
	header.Uname, header.Gname = "", "" // those of the host
	header.Format = tar.FormatPAX
	header.ModTime = header.ModTime.Truncate(time.Second)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	switch {
	case info.IsDir():
		return t.writeDir(name, as, header, hidden)
	case info.Mode().IsRegular():
		return t.writeFile(name, header, info)
	}
	return t.tar.WriteHeader(header)
}

func (t *treeWriter) writeDir(name, as string, header *tar.Header, hidden bool) error {
	as = strings.TrimSuffix(as, "/") + "/"
	header.Name = as
	if err := t.tar.WriteHeader(header); err != nil || hidden {
		return err
	}
	dir, err := t.dir.Open(name)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, child := range names {
		err := t.write(path.Join(name, child), as+child)
		if err != nil && !errors.Is(err, errVanished) {
			return err
		}
	}
	return nil
}

func (t *treeWriter) writeFile(name string, header *tar.Header, info fs.FileInfo) error {
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Nlink > 1 {
		inode := [2]uint64{uint64(stat.Dev), stat.Ino}
		if first, ok := t.seen[inode]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return t.tar.WriteHeader(header)
		}
		t.seen[inode] = header.Name
	}
	// Who has put something else there since shall not keep us waiting: open(2) of a FIFO would.
	file, err := t.dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer file.Close()
	value := make([]byte, 64) // struct vfs_ns_cap_data has 24 bytes
	if n, err := unix.Fgetxattr(int(file.Fd()), capabilityAttr, value); err == nil {
		header.PAXRecords = map[string]string{capabilityRecord: string(value[:n])}
	}
	if err := t.tar.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.CopyN(t.tar, file, header.Size); err != nil { // what has grown since is left out
		return fmt.Errorf("%s: %w", header.Name, err)
	}
	return nil
}

// A treeReader makes what a tar archive says below dir, a path in the directory root.
type treeReader struct {
	root int
	dir  string
}

// readTree unpacks the tar archive that r is in dir, a path in the directory root. Names and links
// do not lead out of root, whoever changes what is there meanwhile. As with docker's cp, a
// directory does not take the place of a file, nor a file that of a directory; owners are those of
// the archive.
func readTree(root int, dir string, r io.Reader) error {
	t := treeReader{root, dir}
	var dirs []*tar.Header
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		header.Name = path.Clean("/" + header.Name)
		if header.Typeflag == tar.TypeXGlobalHeader || header.Name == "/" { // dir itself stays as it is
			continue
		}
		if err := t.makeEntry(header, archive); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeDir {
			dirs = append(dirs, header)
		}
	}
	for _, header := range dirs { // their times, after the last change in them
		fd, err := openInRoot(root, t.dir+header.Name, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return fmt.Errorf("open %s: %w", header.Name, err)
		}
		err = setTimes(fd, header)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return nil
}

// makeEntry makes one entry of the archive.
func (t treeReader) makeEntry(header *tar.Header, content io.Reader) error {
	where := path.Join("/", t.dir, header.Name)
	parent, err := t.openDir(path.Dir(header.Name))
	if err != nil {
		return fmt.Errorf("open %s: %w", path.Dir(where), err)
	}
	defer unix.Close(parent)
	base := path.Base(header.Name)
	var old unix.Stat_t
	if err := unix.Fstatat(parent, base, &old, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		wasDir, isDir := isType(old, unix.S_IFDIR), header.Typeflag == tar.TypeDir
		if wasDir && !isDir {
			return fmt.Errorf("cannot overwrite directory %q with non-directory %q", where, t.dir)
		}
		if !wasDir && isDir {
			return fmt.Errorf("cannot overwrite non-directory %q with directory %q", where, t.dir)
		}
		if !wasDir {
			if err := unix.Unlinkat(parent, base, 0); err != nil {
				return fmt.Errorf("unlink %s: %w", where, err)
			}
		}
	}
	fd, err := t.makeFile(parent, base, header, content)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	defer unix.Close(fd)
	if header.Typeflag == tar.TypeLink {
		return nil // it is what it was
	}
	if err := setAttributes(fd, header); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

// openDir opens the directory name in t.dir. Archives need not have an entry for every directory:
// those that are missing are made.
func (t treeReader) openDir(name string) (int, error) {
	fd, err := openInRoot(t.root, path.Join("/", t.dir, name), unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT || name == "/" {
		return fd, err
	}
	parent, err := t.openDir(path.Dir(name))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, path.Base(name), 0o755); err != nil {
		return -1, err
	}
	return unix.Openat(parent, path.Base(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// makeFile makes the file base of any type in the directory parent, and returns a descriptor of it,
// by which alone it is touched from then on: what its name means may change.
func (t treeReader) makeFile(parent int, base string, header *tar.Header, content io.Reader) (fd int, err error) {
	device := int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor)))
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return -1, err
		}
		file := os.NewFile(uintptr(fd), base)
		defer file.Close()
		if _, err := io.Copy(file, content); err != nil {
			return -1, err
		}
		return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	case tar.TypeDir:
		err = unix.Mkdirat(parent, base, 0o700)
		if err == unix.EEXIST { // checked: it is a directory
			err = nil
		}
	case tar.TypeSymlink:
		err = unix.Symlinkat(header.Linkname, parent, base)
	case tar.TypeLink:
		err = t.link(parent, base, path.Clean("/"+header.Linkname))
	case tar.TypeFifo:
		err = unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		err = unix.Mknodat(parent, base, unix.S_IFCHR|0o600, device)
	case tar.TypeBlock:
		err = unix.Mknodat(parent, base, unix.S_IFBLK|0o600, device)
	default:
		err = fmt.Errorf("unhandled tar header type %d", header.Typeflag)
	}
	if err != nil {
		return -1, err
	}
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if header.Typeflag == tar.TypeDir {
		flags |= unix.O_DIRECTORY
	}
	return unix.Openat(parent, base, flags, 0)
}

// link gives the file target, of the same archive, one more name.
func (t treeReader) link(parent int, base, target string) error {
	dir, err := t.openDir(path.Dir(target))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Linkat(dir, path.Base(target), parent, base, 0)
}

// setAttributes gives the file that fd is the header's owner, mode, capabilities and times.
func setAttributes(fd int, header *tar.Header) error {
	if err := unix.Fchownat(fd, "", header.Uid, header.Gid, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if isType(stat, unix.S_IFLNK) {
		return setTimes(fd, header) // it has no mode of its own: symlink(7)
	}
	mode := uint32(header.Mode) & 0o7777 // after the owner: chown(2) clears the bits for setuid and setgid
	if err := unix.Chmod(fdPath(fd), mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if value, ok := header.PAXRecords[capabilityRecord]; ok {
		if err := unix.Setxattr(fdPath(fd), capabilityAttr, []byte(value), 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("setxattr %s: %w", capabilityAttr, err)
		}
	}
	return setTimes(fd, header)
}

// setTimes sets the times of the file that fd is: both to when it was changed.
func setTimes(fd int, header *tar.Header) error {
	modified, err := unix.TimeToTimespec(header.ModTime)
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	times := []unix.Timespec{modified, modified}
	err = unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH) // Linux 5.8
	if err != nil {
		return fmt.Errorf("utimensat: %w", err)
	}
	return nil
}
