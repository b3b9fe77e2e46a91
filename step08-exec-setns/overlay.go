package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// containersDir has a directory for every container that runs. It is not in /run,
// which is memory: an apt-get install in a container would fill it.
const containersDir = "/var/lib/gocker/containers"

// claimDir makes the directory parent/id and returns it locked: in use, until the
// file is closed. What killed gockers have left in parent nobody has locked any
// more; remove takes it away.
func claimDir(parent, id string, remove func(dir string) error) (*os.File, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	all, err := lockDir(parent, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close() // from here on parent/id is seen, and seen to be locked
	entries, err := all.ReadDir(0)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		orphan := filepath.Join(parent, entry.Name())
		if lock, err := lockDir(orphan, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			remove(orphan) // if that fails, the next container tries again
			lock.Close()
		}
	}
	dir := filepath.Join(parent, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir, unix.LOCK_EX)
	if err != nil {
		return nil, errors.Join(err, remove(dir))
	}
	return lock, nil
}

// lockDir opens and locks the directory dir; how says what happens if another
// process has it locked. Closing the file unlocks, and so does the end of the
// process, whatever ends it: flock(2).
func lockDir(dir string, how int) (*os.File, error) {
	file, err := os.OpenFile(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("flock %s: %w", dir, err), file.Close())
	}
	return file, nil
}

// mountOverlay makes in dir, the container's, merged and mounts on it the directories
// layers, the lowest first, under upper, which takes what the container writes; work
// is overlayfs's own: Documentation/filesystems/overlayfs.rst in the kernel.
func mountOverlay(dir string, layers []string) error {
	for _, name := range []string{"/upper", "/work", "/merged"} {
		if err := os.Mkdir(dir+name, 0o755); err != nil {
			return err
		}
	}
	// All options together must fit into a page, 4096 bytes, and 128 layers would
	// not, with paths of 87 bytes. As open files they have shorter ones.
	lower := make([]string, len(layers))
	for i, layer := range layers {
		fd, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: layer, Err: err}
		}
		defer unix.Close(fd)
		lower[len(layers)-1-i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/upper,workdir=%[2]s/work", strings.Join(lower, ":"), dir)
	err := mount("overlay", dir+"/merged", "overlay", 0, options)
	var under unix.Statfs_t
	if err != nil && unix.Statfs(dir, &under) == nil && under.Type == unix.OVERLAYFS_SUPER_MAGIC {
		err = fmt.Errorf("%w: an upperdir cannot be on an overlayfs, as /var/lib/gocker is; "+
			"mount another filesystem there, for example: mount -t tmpfs none /var/lib/gocker", err)
	}
	return err
}
