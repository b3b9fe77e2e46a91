package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// defaultCapabilities are those that docker leaves to root in a container: capabilities(7).
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// Paths of /proc and /sys that tell of the host, or change it: docker's.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities are the default ones with those of --cap-add and without those of --cap-drop. ALL
// means all in either; what is named counts more than ALL in the other.
func capabilities(add, drop []string, privileged bool) ([]string, error) {
	every, err := knownCapabilities()
	if err != nil {
		return nil, err
	}
	if privileged {
		return every, nil
	}
	add, err = capabilityNames("CapAdd", add, every)
	if err != nil {
		return nil, err
	}
	drop, err = capabilityNames("CapDrop", drop, every)
	if err != nil {
		return nil, err
	}
	set := slices.Clone(defaultCapabilities)
	switch {
	case slices.Contains(add, "ALL"):
		set = every
	case slices.Contains(drop, "ALL"):
		set = nil
	}
	set = slices.DeleteFunc(set, func(name string) bool { return slices.Contains(drop, name) })
	for _, name := range add {
		if name != "ALL" && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return set, nil
}

// knownCapabilities are those that this kernel knows, and that gocker may have itself.
func knownCapabilities() (names []string, err error) {
	last, err := capability.LastCap()
	if err != nil {
		return nil, err
	}
	for _, c := range capability.ListKnown() {
		if bound, err := capability.GetBound(c); c <= last && err == nil && bound {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names, nil
}

// capabilityNames are names as capabilities(7) has them: docker takes chown and CAP_CHOWN.
func capabilityNames(flag string, names, every []string) (found []string, err error) {
	for _, name := range names {
		name = strings.ToUpper(name)
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if name != "ALL" && !slices.Contains(every, name) {
			return nil, fmt.Errorf("invalid %s: unknown capability: %q", flag, name)
		}
		found = append(found, name)
	}
	return found, nil
}

// capabilitySets are the sets of a process that has caps. None is inheritable, so that execve(2) of
// a file with capabilities gives a user no more than that: CVE-2022-24769.
func capabilitySets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// seccompProfile is the filter that option, of --security-opt seccomp=, asks for: docker's default
// one, none, or that of a file.
func seccompProfile(option string, privileged bool, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	switch {
	case option == "unconfined", option == "" && privileged:
		return nil, nil
	case option == "", option == "builtin":
		return seccomp.GetDefaultProfile(s)
	}
	profile, err := seccomp.LoadProfile(option, s)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return profile, nil
}

// readSeccompFile replaces the name of a file in --security-opt seccomp=FILE by what is in it: the
// file may be another one when the container starts again.
func readSeccompFile(option string) (string, error) {
	name, file := splitOption(option)
	if name != "seccomp" || file == "unconfined" || file == "builtin" {
		return option, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", file, err)
	}
	if !json.Valid(content) {
		return "", fmt.Errorf("compacting json for seccomp profile (%s) failed: it is no JSON", file)
	}
	return "seccomp=" + string(content), nil
}

// lookupUser finds the user that name means, NAME or NUMBER with :GROUP or not, in /etc/passwd and
// /etc/group below root, and that user's home directory. No name is root.
func lookupUser(root *os.File, name string) (u specs.User, home string, err error) {
	passwd, err := openBelow(root, "etc/passwd")
	if err != nil {
		return u, "", err
	}
	defer passwd.Close()
	group, err := openBelow(root, "etc/group")
	if err != nil {
		return u, "", err
	}
	defer group.Close()
	found, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return u, "", err
	}
	u = specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	u.AdditionalGids = []uint32{u.GID} // or a program that gives up its group would have more rights: CVE-2022-36109
	for _, gid := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(gid))
	}
	return u, found.Home, nil
}

// userOf finds the user that name means in the container, with the groups of --group-add, and that
// user's home directory: lookupUser.
func userOf(c *container, root *os.File, name string) (u specs.User, home string, err error) {
	u, home, err = lookupUser(root, name)
	if err != nil {
		return u, "", err
	}
	groups, err := additionalGroups(c, root)
	u.AdditionalGids = append(u.AdditionalGids, groups...)
	return u, home, err
}

// additionalGroups are those of --group-add.
func additionalGroups(c *container, root *os.File) (gids []uint32, err error) {
	if len(c.HostConfig.GroupAdd) == 0 {
		return nil, nil
	}
	group, err := openBelow(root, "etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close()
	found, err := user.GetAdditionalGroups(c.HostConfig.GroupAdd, group)
	if err != nil {
		return nil, err
	}
	for _, gid := range found {
		gids = append(gids, uint32(gid))
	}
	return gids, nil
}

// openBelow opens the regular file name, which is looked up as if root were /: openat2(2), Linux
// 5.6. Where there is none, it is empty: an image need not have users.
func openBelow(root *os.File, name string) (io.ReadCloser, error) {
	empty := io.NopCloser(strings.NewReader(""))
	fd, err := openInRoot(int(root.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return empty, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open /%s in the container: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() <= maxUsers {
		return file, nil
	}
	file.Close()
	if err == nil && info.Size() > maxUsers {
		err = fmt.Errorf("/%s in the container has more than %d bytes", name, maxUsers)
	}
	if err != nil {
		return nil, err
	}
	return empty, nil
}

// maxUsers is how many bytes a list of users may have. An image could have one line of a terabyte,
// which takes no room there, but would in our memory.
const maxUsers = 16 << 20

// parseUlimits are those of --ulimit: getrlimit(2).
func parseUlimits(ulimits []*dockercontainer.Ulimit) (limits []specs.POSIXRlimit, err error) {
	for _, u := range ulimits {
		limits = append(limits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	return limits, nil
}

// addDevices gives s the devices of --device, or with --privileged all that the host has, and says
// what may be opened: config-linux.md, Devices and Device allowlist. Others can be made, with
// CAP_MKNOD, but not opened.
func addDevices(c *container, s *specs.Spec) error {
	if c.HostConfig.Privileged {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return addHostDevices(s)
	}
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, allow("c", -1, -1, "m"), allow("b", -1, -1, "m")}
	for _, device := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}} {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, allow("c", device[0], device[1], "rwm"))
	}
	for _, m := range c.HostConfig.Devices {
		device, rule, err := runtime.HostDevice(m.PathOnHost)
		if err != nil {
			return fmt.Errorf("error gathering device information while adding custom device %q: %w", m.PathOnHost, err)
		}
		if strings.Trim(m.CgroupPermissions, "rwm") != "" {
			return fmt.Errorf("invalid device mode: %s", m.CgroupPermissions)
		}
		device.Path = m.PathInContainer
		rule.Allow, rule.Access = true, m.CgroupPermissions
		s.Linux.Devices = append(s.Linux.Devices, device)
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, rule)
	}
	return nil
}

// allow is a rule for devices of kind c or b; -1 is any number.
func allow(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
	if major >= 0 {
		rule.Major = &major
	}
	if minor >= 0 {
		rule.Minor = &minor
	}
	return rule
}

// addHostDevices gives s all devices in the host's /dev but terminals and what is mounted there.
func addHostDevices(s *specs.Spec) error {
	return filepath.WalkDir("/dev", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return nil // it is just going
		}
		if entry.IsDir() && slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"}, path) {
			return filepath.SkipDir
		}
		if entry.Type()&os.ModeDevice == 0 || path == "/dev/console" || path == "/dev/ptmx" {
			return nil
		}
		if device, _, err := runtime.HostDevice(path); err == nil {
			s.Linux.Devices = append(s.Linux.Devices, device)
		}
		return nil
	})
}
