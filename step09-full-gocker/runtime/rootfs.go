package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountAll mounts the root file system and all that belongs into it, each resolved inside of it, and
// makes it the root of this mount namespace.
func mountAll(o order, cg *cgroup) error {
	shared, err := cloneShared(o.Spec.Mounts)
	if err != nil {
		return err
	}
	// What is mounted here is not to appear on the host. What is mounted on the host may appear
	// here, in binds that say so: mount_namespaces(7).
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	rootfs := o.Spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(o.Bundle, rootfs)
	}
	if err := mountRoot(o, rootfs); err != nil {
		return err
	}
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", rootfs, err)
	}
	defer unix.Close(root)
	var own bool // /dev is ours to fill
	for _, m := range o.Spec.Mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			err = mountCgroups(root, m, cg, hasNew(o.Spec, specs.CgroupNamespace))
		} else {
			tree, ok := shared[m.Destination]
			if !ok {
				tree = -1
			}
			err = mountTree(root, m, tree)
		}
		if err != nil {
			return err
		}
		if filepath.Clean(m.Destination) == "/dev" {
			own = m.Type == "tmpfs"
		}
	}
	if err := pivotRoot(root); err != nil {
		return err
	}
	if own {
		if err := makeDevices(o.Spec.Linux.Devices); err != nil {
			return err
		}
		if err := makeDevLinks(); err != nil {
			return err
		}
	}
	if o.Spec.Root.Readonly {
		return remountReadOnly("/")
	}
	return nil
}

// mountRoot mounts the root file system on the directory rootfs: one that has been mounted already and
// is nowhere in the tree, or that directory on itself, since pivot_root(2) wants a mount.
func mountRoot(o order, rootfs string) error {
	if !o.Root {
		return mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err := unix.MoveMount(rootFD, "", unix.AT_FDCWD, rootfs, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", rootfs, err)
	}
	return mount("", rootfs, "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// pivotRoot makes the mount at the directory root the root of this mount namespace, and takes the old one
// out of it: what chroot(2) hides can be walked to, and what is not there cannot. Both may be the
// same directory: the old root then lies over the new one, pivot_root(2).
func pivotRoot(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount the old root: %w", err)
	}
	return os.Chdir("/")
}

// remountReadOnly makes the mount at path read-only and leaves its other flags, which a remount would
// forget otherwise: mount(2).
func remountReadOnly(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", path, err)
	}
	flags := uintptr(s.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	return mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
}

// makeDevLinks makes the symbolic links that the OCI runtime specification promises in /dev:
// config-linux.md, Default Devices; runtime-linux.md, Dev symbolic links.
func makeDevLinks() error {
	for _, link := range []struct{ name, target string }{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
	} {
		err := os.Symlink(link.target, "/dev/"+link.name)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// mount is mount(2) with an error that names the target.
func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		what := strings.TrimSpace(fstype + " " + source)
		return fmt.Errorf("mount %s on %s: %w", what, target, err)
	}
	return nil
}
