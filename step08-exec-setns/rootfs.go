package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// changeRoot makes the directory dir the root of every path that this process looks up
// from now on: chroot(2). That is no security boundary: root can get out of it again, and change
// the host's settings through /proc/sys.
func changeRoot(dir string) error {
	if err := unix.Chroot(dir); err != nil {
		return fmt.Errorf("chroot %s: %w", dir, err)
	}
	return changeDir("/") // the working directory is still outside, and so is where ".." leads
}

// changeDir makes dir the working directory. It must be in the root directory: getcwd(2) puts
// "(unreachable)" before the path of one that is not.
func changeDir(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("chdir %s: %w", dir, err)
	}
	path := make([]byte, unix.PathMax)
	if _, err := unix.Getcwd(path); err != nil || path[0] != '/' {
		return fmt.Errorf("chdir %s: it is outside of the container", dir)
	}
	return nil
}

// enterRootfs changes the root to the directory rootfs, and sees to the mount points there.
func enterRootfs(rootfs string) error {
	if err := changeRoot(rootfs); err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		err := os.MkdirAll(dir, 0o755)
		if errors.Is(err, unix.EROFS) {
			return fmt.Errorf("mkdir %s: %w: a root directory that is read-only must have proc, sys and dev",
				filepath.Join(rootfs, dir), unix.EROFS)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mountSys mounts a read-only /sys: sysfs(5).
func mountSys() error {
	return mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// devices are those that the OCI runtime spec promises every container (config-linux.md,
// Default Devices). Their numbers are in Documentation/admin-guide/devices.txt in the
// kernel.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// devLinks are the symbolic links that it promises, too, and where they lead.
var devLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"}, {"ptmx", "pts/ptmx"},
}

// mountDev mounts a /dev in memory, with devices and devLinks and no others, and in it
// pseudoterminals and shared memory. The host sees none of it: rootfs/dev stays empty.
func mountDev() error {
	umask := unix.Umask(0) // the modes below are meant as they stand
	defer unix.Umask(umask)
	if err := mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=64m"); err != nil {
		return err
	}
	for _, device := range devices {
		path := "/dev/" + device.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(device.major, device.minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", path, err)
		}
	}
	for _, link := range devLinks {
		if err := os.Symlink(link.target, "/dev/"+link.name); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// newinstance: terminals that share no numbers with the host's. ptmxmode: everybody may
	// make one. gid 5 is the group tty in nearly every distribution.
	options := "newinstance,ptmxmode=0666,mode=0620,gid=5"
	if err := mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
		return err
	}
	return mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m")
}
