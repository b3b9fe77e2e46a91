package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// containerEnv is the environment that every command starts with. Nothing of
// the host's is passed on but the kind of terminal.
func containerEnv(id string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + id,
		"HOME=/root",
	}
	if term, ok := os.LookupEnv("TERM"); ok {
		env = append(env, "TERM="+term)
	}
	return env
}

// enterRootfs makes the directory rootfs the root of every path that this
// process looks up from now on, and sees to the mount points in it: chroot(2).
func enterRootfs(rootfs string) error {
	if err := unix.Chroot(rootfs); err != nil {
		return fmt.Errorf("chroot %s: %w", rootfs, err)
	}
	// chroot(2) leaves the working directory where it was, outside.
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountSys mounts a read-only /sys: sysfs(5).
func mountSys() error {
	return mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// mountDev mounts a /dev in memory with the devices, and only those, that the
// OCI runtime spec promises every container (config-linux.md, Default Devices).
func mountDev() error {
	defer unix.Umask(unix.Umask(0)) // the modes below are meant as they stand
	if err := mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=64m"); err != nil {
		return err
	}
	for _, device := range []struct {
		name         string
		major, minor uint32 // Documentation/admin-guide/devices.txt in the kernel
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		path := "/dev/" + device.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(device.major, device.minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", path, err)
		}
	}
	for _, link := range []struct{ name, target string }{
		{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"}, {"ptmx", "pts/ptmx"},
	} {
		if err := os.Symlink(link.target, "/dev/"+link.name); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// newinstance: pseudoterminals that share no numbers with the host's.
	// gid 5 is the group tty in nearly every distribution.
	options := "newinstance,ptmxmode=0666,mode=0620,gid=5"
	if err := mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
		return err
	}
	return mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m")
}
