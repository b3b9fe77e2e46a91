package main

import (
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// makeSpec describes the container for the runtime: OCI runtime-spec, config.md. Every feature of run is
// a field here, or it is something of the engine's that the runtime never hears of.
func makeSpec(c *container, img *image, root *os.File) (*specs.Spec, error) {
	process, err := makeProcess(c, root)
	if err != nil {
		return nil, err
	}
	mounts, err := makeMounts(c, img)
	if err != nil {
		return nil, err
	}
	namespaces, err := makeNamespaces(c)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Process:  process,
		Root:     &specs.Root{Path: "merged", Readonly: c.HostConfig.ReadonlyRootfs},
		Hostname: c.Config.Hostname, Domainname: c.Config.Domainname,
		Mounts: mounts,
		Linux: &specs.Linux{
			Namespaces:  namespaces,
			CgroupsPath: "/gocker/" + c.ID,
			Resources:   makeResources(c),
			Sysctl:      sysctls(c),
		},
	}
	if !c.HostConfig.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	if err := addDevices(c, s); err != nil {
		return nil, err
	}
	s.Linux.Seccomp, err = seccompProfile(securityOption(c, "seccomp"), c.HostConfig.Privileged, s)
	return s, err
}

// makeProcess describes the command: OCI config.md, Process.
func makeProcess(c *container, root *os.File) (*specs.Process, error) {
	user, home, err := userOf(c, root, c.Config.User)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(c.HostConfig.CapAdd, c.HostConfig.CapDrop, c.HostConfig.Privileged)
	if err != nil {
		return nil, err
	}
	rlimits, err := parseUlimits(c.HostConfig.Ulimits)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal: c.Config.Tty, ConsoleSize: consoleSize(c.Config.Tty),
		User: user, Args: slices.Concat(c.Config.Entrypoint, c.Config.Cmd), Env: makeEnv(c, home),
		Cwd: path.Join("/", c.Config.WorkingDir), Capabilities: capabilitySets(caps), Rlimits: rlimits,
		OOMScoreAdj: &c.HostConfig.OomScoreAdj, NoNewPrivileges: noNewPrivileges(c),
	}
	if c.HostConfig.Init != nil && *c.HostConfig.Init {
		p.Args = append([]string{initPath, "--"}, p.Args...)
	}
	return p, nil
}

// makeEnv is the command's environment: what docker gives every container, over that the image's and
// the flags'.
func makeEnv(c *container, home string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + c.Config.Hostname,
	}
	if c.Config.Tty {
		env = append(env, "TERM=xterm")
	}
	env = addEnv(env, c.Config.Env)
	if !hasEnv(env, "HOME") {
		env = append(env, "HOME="+home)
	}
	return env
}

// consoleSize is that of our terminal, if there is to be one.
func consoleSize(tty bool) *specs.Box {
	if !tty {
		return nil
	}
	width, height, err := term.GetSize(0)
	if err != nil {
		return nil
	}
	return &specs.Box{Height: uint(height), Width: uint(width)}
}

// securityOption returns the value of a --security-opt NAME=VALUE, or "".
func securityOption(c *container, name string) (value string) {
	for _, option := range c.HostConfig.SecurityOpt {
		if n, v := splitOption(option); n == name {
			value = v
		}
	}
	return value
}

// splitOption splits a --security-opt NAME=VALUE, or as docker once had it NAME:VALUE.
func splitOption(option string) (name, value string) {
	if i := strings.IndexAny(option, "=:"); i >= 0 {
		return option[:i], option[i+1:]
	}
	return option, ""
}

// noNewPrivileges tells whether --security-opt no-new-privileges is there: prctl(2), PR_SET_NO_NEW_PRIVS.
func noNewPrivileges(c *container) bool {
	return slices.Contains(c.HostConfig.SecurityOpt, "no-new-privileges") ||
		securityOption(c, "no-new-privileges") == "true"
}

// makeNamespaces are the container's own, but for those that it shares: OCI config-linux.md.
func makeNamespaces(c *container) ([]specs.LinuxNamespace, error) {
	namespaces := []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
	}
	if c.HostConfig.Privileged {
		namespaces = namespaces[:2] // it may see and change the host's cgroups
	}
	network, ok, err := networkNamespace(c)
	if err != nil {
		return nil, err
	}
	if ok {
		namespaces = append(namespaces, network)
	}
	for _, shared := range []struct {
		kind       specs.LinuxNamespaceType
		mode, file string
	}{
		{specs.PIDNamespace, string(c.HostConfig.PidMode), "pid"},
		{specs.IPCNamespace, string(c.HostConfig.IpcMode), "ipc"},
	} {
		name, ok := strings.CutPrefix(shared.mode, "container:")
		switch {
		case ok:
			other, err := findContainer(name)
			if err != nil {
				return nil, err
			}
			pid := other.pid()
			if pid == 0 {
				return nil, fmt.Errorf("cannot join %s of a non running container: %s", strings.ToUpper(shared.file), other.ID)
			}
			namespaces = append(namespaces, specs.LinuxNamespace{Type: shared.kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, shared.file)})
		case shared.mode == "host":
		case shared.mode == "", shared.mode == "private", shared.mode == "shareable":
			namespaces = append(namespaces, specs.LinuxNamespace{Type: shared.kind})
		default:
			return nil, fmt.Errorf("invalid %s mode: %s", strings.ToUpper(shared.file), shared.mode)
		}
	}
	return namespaces, nil
}

// makeResources are the limits: OCI config-linux.md, Control groups.
func makeResources(c *container) *specs.LinuxResources {
	from := c.HostConfig.Resources
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: from.CpusetCpus, Mems: from.CpusetMems}}
	if from.Memory > 0 {
		r.Memory.Limit = &from.Memory
	}
	if from.MemorySwap != 0 {
		r.Memory.Swap = &from.MemorySwap
	}
	if from.MemoryReservation > 0 {
		r.Memory.Reservation = &from.MemoryReservation
	}
	if from.CPUShares > 0 {
		shares := uint64(from.CPUShares)
		r.CPU.Shares = &shares
	}
	period, quota := uint64(from.CPUPeriod), from.CPUQuota
	if from.NanoCPUs > 0 { // of a period of 100 ms
		period, quota = 100_000, int64(math.Round(float64(from.NanoCPUs)/1e4))
	}
	if period > 0 {
		r.CPU.Period = &period
	}
	if quota > 0 {
		r.CPU.Quota = &quota
	}
	if from.PidsLimit != nil && *from.PidsLimit > 0 {
		r.Pids = &specs.LinuxPids{Limit: from.PidsLimit}
	}
	return r
}

// sysctls are those of the flags, and docker's: whoever may not be root may ping, and listen on port 80.
func sysctls(c *container) map[string]string {
	all := map[string]string{}
	if c.HostConfig.NetworkMode != "host" && !strings.HasPrefix(string(c.HostConfig.NetworkMode), "container:") {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for name, value := range c.HostConfig.Sysctls {
		all[name] = value
	}
	return all
}

// makeMounts are docker's, but for those in whose place the flags put something else, and then the flags'.
func makeMounts(c *container, img *image) ([]specs.Mount, error) {
	theirs, err := prepareMounts(c, img)
	if err != nil {
		return nil, err
	}
	cgroupOptions, sysOptions := []string{"nosuid", "noexec", "nodev", "relatime", "ro"}, []string{"nosuid", "noexec", "nodev", "ro"}
	if c.HostConfig.Privileged {
		cgroupOptions[4], sysOptions[3] = "rw", "rw"
	}
	etcOptions := []string{"rbind", "rprivate"}
	if c.HostConfig.ReadonlyRootfs {
		etcOptions = append(etcOptions, "ro")
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		// newinstance: terminals that share no numbers with the host's. gid 5 is the group tty in
		// nearly every distribution.
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sysOptions},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroupOptions},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(c.HostConfig.ShmSize, 10)}},
	}
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		all = append(all, specs.Mount{
			Destination: "/etc/" + name, Type: "bind", Source: path.Join(c.dir(), name), Options: etcOptions,
		})
	}
	if c.HostConfig.Init != nil && *c.HostConfig.Init {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		all = append(all, specs.Mount{Destination: initPath, Type: "bind", Source: program, Options: []string{"bind", "ro"}})
	}
	all = slices.DeleteFunc(all, func(m specs.Mount) bool {
		return slices.ContainsFunc(theirs, func(t specs.Mount) bool { return path.Clean(t.Destination) == m.Destination })
	})
	all = append(all, theirs...)
	// What lies in another mount comes after it.
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return strings.Count(path.Clean(a.Destination), "/") - strings.Count(path.Clean(b.Destination), "/")
	})
	return all, nil
}

// openRootOf opens the root directory of the process pid, as a place to look up paths in, openat2(2).
func openRootOf(pid int) (*os.File, error) {
	name := fmt.Sprintf("/proc/%d/root", pid)
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
