package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	mounttypes "github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// openInRoot opens name in the directory root, a descriptor (O_PATH will do): "/" and ".." in name,
// and in the links on the way, do not lead out of it, whoever changes them meanwhile, and links of
// proc(5) that lead anywhere are refused. openat2(2), Linux 5.6.
func openInRoot(root int, name string, flags int) (int, error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, how)
		if err != unix.EAGAIN && err != unix.EINTR { // EAGAIN: something was renamed beside a ".."
			return fd, err
		}
	}
}

// fdPath is a name for what the descriptor fd stands for, as exactly as fd itself: proc(5).
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// withDir calls f with a descriptor of the directory dir.
func withDir(dir string, f func(fd int) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	return f(fd)
}

// withImage calls f with the root directory of an image that has these layers. In a mount namespace
// of its own it is mounted over scratch, an empty directory; what f writes there nobody keeps.
func withImage(scratch string, layers []string, f func(root int) error) error {
	return withMounts(func() error {
		if err := unix.Mount("none", scratch, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", scratch, err)
		}
		if err := mountOverlay(scratch, layers); err != nil {
			return err
		}
		return withDir(scratch+"/merged", f)
	})
}

// withRoot calls f with the root directory of c: what its processes see if it runs; if not, its
// files, and its volumes and binds in their places.
func (c *container) withRoot(f func(root int) error) error {
	if pid := c.pid(); pid != 0 {
		return withDir(fmt.Sprintf("/proc/%d/root", pid), func(root int) error {
			if c.pid() != pid { // or it could be another's
				return fmt.Errorf("container %s has just ended", c.ID)
			}
			return f(root)
		})
	}
	lock, err := c.lock() // nobody may start it: an overlay's upper directory is for one mount
	if err != nil {
		return err
	}
	defer lock.Close()
	if c.running() {
		return fmt.Errorf("container %s has just been started", c.ID)
	}
	img, err := findImage(c.ImageID)
	if err != nil {
		return err
	}
	mounts, err := prepareMounts(c, img)
	if err != nil {
		return err
	}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		mounts = append(mounts, specs.Mount{Type: "bind", Source: c.dir() + "/" + name, Destination: "/etc/" + name})
	}
	return overLayers(c.dir(), img.layerDirs(), func(merged string) error {
		return withDir(merged, func(root int) error {
			for _, m := range mounts {
				if err := mountAgain(root, m); err != nil {
					return err
				}
			}
			return f(root)
		})
	})
}

// mountAgain mounts m in the root directory of a container that does not run. What a tmpfs would
// have is gone, and files that were never made are left out.
func mountAgain(root int, m specs.Mount) error {
	if m.Type != string(mounttypes.TypeBind) {
		return nil
	}
	if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) && strings.HasPrefix(m.Source, containersDir) {
		return nil
	}
	readOnly := "rw"
	for _, option := range m.Options {
		if option == "ro" || option == "rro" {
			readOnly = option
		}
	}
	m.Options = []string{"rbind", "rprivate", readOnly}
	return runtime.MountInRoot(root, m)
}
