package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// mountRoot mounts the container's root file system, what it writes over the layers of its image (the
// lowest first), and returns it as a mount that is nowhere in the tree: open_tree(2), Linux 5.2. So it
// is gone with the last descriptor and the last container that has it, and never in anybody's way.
func (c *container) mountRoot(layers []string) (root *os.File, err error) {
	err = withMounts(func() error {
		if err := mountOverlay(c.dir(), layers); err != nil {
			return err
		}
		merged := c.dir() + "/merged"
		tree, err := unix.OpenTree(unix.AT_FDCWD, merged, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open_tree %s: %w", merged, err)
		}
		root = os.NewFile(uintptr(tree), merged)
		return nil
	})
	return root, err
}

// mountOverlay mounts the directories lower, the lowest first, on dir/merged, under a new
// directory dir/upper, which takes all that is written. dir/work is overlayfs's own:
// Documentation/filesystems/overlayfs.rst in the kernel.
func mountOverlay(dir string, lower []string) error {
	upper, work, merged, empty := dir+"/upper", dir+"/work", dir+"/merged", dir+"/empty"
	for _, name := range []string{upper, work, merged, empty} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	if len(lower) == 0 {
		lower = []string{empty} // there must be one
	}
	// All options together must fit into a page, 4096 bytes, and 128 layers would not, with
	// paths of 87 bytes. As open files they have shorter ones.
	short := make([]string, len(lower))
	for i, layer := range lower {
		fd, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", layer, err)
		}
		defer unix.Close(fd)
		short[len(lower)-1-i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	// What is in upper must mean the same without the mount, for commit and for layers: no directory that is
	// renamed, and no file whose mode is changed, may be a pointer to the layers below.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off",
		strings.Join(short, ":"), upper, work)
	err := unix.Mount("overlay", merged, "overlay", 0, options)
	var under unix.Statfs_t
	if err != nil && unix.Statfs(dir, &under) == nil && under.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("mount overlay on %s: %w: an upperdir cannot be on an overlayfs, as %s is; "+
			"mount another filesystem there, for example: mount -t tmpfs none %[3]s", merged, err, storeDir)
	}
	if err != nil {
		return fmt.Errorf("mount overlay on %s: %w", merged, err)
	}
	return nil
}

// overLayers mounts an overlay in dir over the layers below, the lowest first, where nobody else sees it,
// and calls f with the path of dir/merged: mountOverlay, withMounts.
func overLayers(dir string, below []string, f func(merged string) error) error {
	return withMounts(func() error {
		if err := mountOverlay(dir, below); err != nil {
			return err
		}
		merged := dir + "/merged"
		err := f(merged)
		return errors.Join(err, os.NewSyscallError("unmount "+merged, unix.Unmount(merged, unix.MNT_DETACH)))
	})
}

// withMounts calls f on a thread of its own, in a mount namespace of its own. Whatever f mounts, nobody
// else sees it, and it goes with the thread, at the latest with gocker. The goroutine stays locked to
// the thread, and ends it: no other one ever gets there.
func withMounts(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNS))
		if err == nil {
			err = os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
