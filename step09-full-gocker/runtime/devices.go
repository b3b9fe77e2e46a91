package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are those that every container has: config-linux.md, Default Devices. Their
// numbers are in Documentation/admin-guide/devices.txt in the kernel. console and ptmx come with
// the terminals.
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// deviceTypes are mknod(2)'s types of files.
var deviceTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// makeDevices makes devices, and the default ones, in the root directory of this process: mknod(2),
// config-linux.md, Devices. Of two with the same path the first one counts. That a device is there
// does not say that it may be used: see deviceRules.
func makeDevices(devices []specs.LinuxDevice) error {
	umask := unix.Umask(0) // the modes are meant as they stand
	defer unix.Umask(umask)
	made := map[string]bool{}
	for _, device := range append(devices, defaultDevices...) {
		path := filepath.Clean(device.Path)
		if made[path] {
			continue
		}
		made[path] = true
		if err := makeDevice(path, device); err != nil {
			return err
		}
	}
	return nil
}

// makeDevice makes the device at path.
func makeDevice(path string, device specs.LinuxDevice) error {
	kind, ok := deviceTypes[device.Type]
	if !ok {
		return fmt.Errorf("device %s: unknown type %q", path, device.Type)
	}
	mode := os.FileMode(0o666)
	if device.FileMode != nil {
		mode = device.FileMode.Perm()
	}
	uid, gid := 0, 0
	if device.UID != nil {
		uid = int(*device.UID)
	}
	if device.GID != nil {
		gid = int(*device.GID)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// What is there was mounted there, or is of the image.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	err := unix.Mknod(path, kind|uint32(mode), int(unix.Mkdev(uint32(device.Major), uint32(device.Minor))))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mknod %s: %w", path, err)
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// HostDevice describes the device at path on this host, and the rule that allows it.
func HostDevice(path string) (device specs.LinuxDevice, rule specs.LinuxDeviceCgroup, err error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return device, rule, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		device.Type = "c"
	case unix.S_IFBLK:
		device.Type = "b"
	default:
		return device, rule, fmt.Errorf("%s is not a device", path)
	}
	mode := os.FileMode(s.Mode & 0o777)
	device.Path, device.Major, device.Minor = path, int64(unix.Major(s.Rdev)), int64(unix.Minor(s.Rdev))
	device.FileMode, device.UID, device.GID = &mode, &s.Uid, &s.Gid
	rule = specs.LinuxDeviceCgroup{Allow: true, Type: device.Type, Major: &device.Major, Minor: &device.Minor, Access: "rwm"}
	return device, rule, nil
}
