package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

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
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(short, ":"), upper, work)
	err := mount("overlay", merged, "overlay", 0, options)
	var under unix.Statfs_t
	if err != nil && unix.Statfs(dir, &under) == nil && under.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%w: an upperdir cannot be on an overlayfs, as /var/lib/gocker is; "+
			"mount another filesystem there, for example: mount -t tmpfs none /var/lib/gocker", err)
	}
	return err
}

// withMounts calls f on a thread of its own, in a mount namespace of its own. Whatever f mounts,
// nobody else sees it, and it goes with the thread, at the latest with gocker. The goroutine
// stays locked to the thread, and ends it: no other one ever gets there.
func withMounts(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNS))
		if err == nil {
			err = mountPrivate()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
