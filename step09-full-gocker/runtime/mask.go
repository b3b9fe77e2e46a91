package runtime

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maskPaths makes what is at paths, in the root directory of this process, look empty:
// config-linux.md, Masked Paths. A file becomes /dev/null, and a directory an empty one. What is
// not there stays so. label is SELinux's for those directories, or empty.
func maskPaths(paths []string, label string) error {
	null, err := openNull()
	if err != nil {
		return err
	}
	defer unix.Close(null)
	options := "nr_blocks=1,nr_inodes=1"
	if label != "" {
		options += fmt.Sprintf(",context=%q", label)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.IsDir():
			err = mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, options)
		default:
			err = coverFile(null, path)
		}
		if err != nil {
			return fmt.Errorf("mask: %w", err)
		}
	}
	return nil
}

// openNull opens the device that masks files. It is in the container's /dev, and another file in
// its place would show what it has, under a name that is trusted: CVE-2025-31133.
func openNull() (int, error) {
	null, err := unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/null: %w", err)
	}
	var stat unix.Stat_t
	err = unix.Fstat(null, &stat)
	if err != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != unix.Mkdev(1, 3) {
		unix.Close(null)
		return -1, errors.Join(errors.New("/dev/null in the container is something else"), err)
	}
	return null, nil
}

// coverFile mounts the open file on path: open_tree(2), move_mount(2). No name leads to it, which
// somebody could change meanwhile.
func coverFile(file int, path string) error {
	tree, err := unix.OpenTree(file, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return fmt.Errorf("move_mount on %s: %w", path, err)
	}
	return nil
}

// readonlyPaths makes paths, in the root directory of this process, read-only: config-linux.md,
// Readonly Paths. What is not there stays so.
func readonlyPaths(paths []string) error {
	for _, path := range paths {
		err := mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if err := remountReadOnly(path); err != nil {
			return err
		}
	}
	return nil
}
