package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mountPrivate cuts the mount namespace of this process off from the one it was
// copied from. A copy stays a peer of its original (systemd makes / shared), so
// what is mounted in one of them appears in the other: mount_namespaces(7).
func mountPrivate() error {
	return mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// mountProc mounts a /proc that shows the PID namespace of this process: proc(5).
// The host's /proc lies under it, unchanged.
func mountProc() error {
	return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// mount is mount(2) with an error that names the target.
func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}
