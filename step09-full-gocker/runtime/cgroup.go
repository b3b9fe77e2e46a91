package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// controllers are those that we use: cgroups(7). cpuacct, of cgroup v1, only counts. devices and
// freezer are cgroup v1's, too: cgroup v2 freezes by itself, and asks a BPF program about devices.
var controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"}

// A hierarchy is a tree of cgroups: cgroup v2 has one for everything, cgroup v1 several, a hybrid
// host both.
type hierarchy struct {
	Root string   // where the host has mounted it
	V1   []string // its controllers, if it is of cgroup v1
}

// findHierarchies returns those that this host has mounted and we need, from the file mountinfo:
// proc(5).
func findHierarchies(mountinfo string) (found []hierarchy, err error) {
	mounts, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, err
	}
	var devices []string
	for line := range strings.Lines(string(mounts)) {
		mount, filesystem, _ := strings.Cut(line, " - ")
		where, what := strings.Fields(mount), strings.Fields(filesystem)
		h := hierarchy{Root: unescape(where[4])}
		if what[0] == "cgroup" {
			h.V1 = slices.DeleteFunc(strings.Split(what[len(what)-1], ","), isNoController)
		}
		needed := what[0] == "cgroup2" || slices.ContainsFunc(h.V1, func(name string) bool { return slices.Contains(controllers, name) })
		if !needed || slices.Contains(devices, where[2]) || unix.Access(h.Root+"/cgroup.procs", unix.F_OK) != nil {
			continue // something else, or mounted twice, or hidden by another mount
		}
		devices = append(devices, where[2])
		found = append(found, h)
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted; try: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return found, nil
}

// isNoController tells which mount options of cgroup v1 are something else.
func isNoController(option string) bool {
	others := []string{"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode"}
	return slices.Contains(others, option) || strings.Contains(option, "=")
}

// unescape returns a path of mountinfo as it is: spaces and the like are octal there.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// isV2 tells whether h is of cgroup v2.
func (h hierarchy) isV2() bool { return h.V1 == nil }

// A cgroup is that of a container: a directory in each hierarchy.
type cgroup struct {
	path        string // below the root of each hierarchy
	hierarchies []hierarchy
	v2          *os.File // the directory in the hierarchy of cgroup v2, if create has made it
	pidsLimit   int64    // that setPids sets; 0 is none
}

// newCgroup returns the cgroup with the given path: config-linux.md, Cgroups Path. It is below what
// each hierarchy's mount shows, which need not be the host's root. It may not be there yet.
func newCgroup(path string) (*cgroup, error) {
	path = filepath.Join("/", path)
	if path == "/" {
		return nil, errors.New("config.json: cgroupsPath is empty")
	}
	hierarchies, err := findHierarchies("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return &cgroup{path: path, hierarchies: hierarchies}, nil
}

// dir is the directory of c in h.
func (c *cgroup) dir(h hierarchy) string { return h.Root + c.path }

// create makes the cgroup, which nobody else may have made, with the limits r but that of
// processes, which setPids sets. What it has made stays, also if it fails.
func (c *cgroup) create(r *specs.LinuxResources) error {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	limits, err := limitsOf(r)
	if err != nil {
		return err
	}
	for _, h := range c.hierarchies {
		if err := c.makeDir(h); err != nil {
			return err
		}
	}
	for _, l := range limits {
		if err := c.set(l); err != nil {
			return err
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		c.pidsLimit = *r.Pids.Limit
	}
	return c.restrictDevices(r.Devices)
}

// makeDir makes the directory of c in h, and those that lead to it.
func (c *cgroup) makeDir(h hierarchy) error {
	parent := h.Root
	if err := h.prepare(parent); err != nil {
		return err
	}
	names := strings.Split(strings.Trim(c.path, "/"), "/")
	for _, name := range names[:len(names)-1] {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := h.inherit(dir); err != nil {
			return err
		}
		if err := h.prepare(dir); err != nil {
			return err
		}
		parent = dir
	}
	if err := os.Mkdir(c.dir(h), 0o755); err != nil {
		return err
	}
	if h.isV2() {
		dir, err := os.Open(c.dir(h))
		if err != nil {
			return err
		}
		c.v2 = dir
	}
	return h.inherit(c.dir(h))
}

// prepare gives the cgroups in dir, of cgroup v2, the controllers of dir.
func (h hierarchy) prepare(dir string) error {
	if !h.isV2() {
		return nil
	}
	available, err := os.ReadFile(dir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	enable := ""
	for name := range strings.FieldsSeq(string(available)) {
		if slices.Contains(controllers, name) {
			enable += "+" + name + " "
		}
	}
	err = writeFile(dir+"/cgroup.subtree_control", enable)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: a cgroup that has processes cannot give controllers to cgroups in it; "+
			"move the processes that are in %s itself, as those of a container are, to a cgroup below it", err, dir)
	}
	return err
}

// inherit gives dir the CPUs and memory nodes of the cgroup that it is in, if it has none. In
// cgroup v1 it has none at first, and nobody can join it: cpuset(7).
func (h hierarchy) inherit(dir string) error {
	if !slices.Contains(h.V1, "cpuset") {
		return nil
	}
	for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
		own, err := os.ReadFile(dir + file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(own)) != "" {
			continue
		}
		parents, err := os.ReadFile(filepath.Dir(dir) + file)
		if err != nil {
			return err
		}
		if err := writeFile(dir+file, string(parents)); err != nil {
			return err
		}
	}
	return nil
}

// dirFD is the cgroup of cgroup v2 in which a process can be born, or nil: CLONE_INTO_CGROUP,
// clone(2).
func (c *cgroup) dirFD() *os.File { return c.v2 }

// join moves this thread, which will be the command's, into the cgroup. The Go runtime's other
// threads stay where they are, and do not count. A thread moves at once; a process has to wait for
// all CPUs (synchronize_rcu in the kernel). In cgroup v2, where only a process can move, the first
// process is born, and others come by move.
func (c *cgroup) join() error {
	for _, h := range c.hierarchies {
		if h.isV2() {
			continue
		}
		if err := writeFile(c.dir(h)+"/tasks", "0"); err != nil {
			return err
		}
	}
	return nil
}

// move moves the process pid into the cgroup of cgroup v2, if there is one.
func (c *cgroup) move(pid int) error {
	for _, h := range c.hierarchies {
		if !h.isV2() {
			continue
		}
		err := writeFile(c.dir(h)+"/cgroup.procs", strconv.Itoa(pid))
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		// What runs in the container, systemd for one, has made cgroups in it and has gone there.
		moved := errors.New("no cgroup in it takes processes")
		c.walk(h, func(dir string) {
			if moved != nil && dir != c.dir(h) {
				moved = writeFile(dir+"/cgroup.procs", strconv.Itoa(pid))
			}
		})
		if moved != nil {
			return errors.Join(err, moved)
		}
	}
	return nil
}

// walk calls visit with the directory of c in h, and with those that were made in it.
func (c *cgroup) walk(h hierarchy, visit func(dir string)) error {
	return filepath.WalkDir(c.dir(h), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path != c.dir(h) {
			return nil // it has just been removed
		}
		if err != nil {
			return err
		}
		if entry.IsDir() {
			visit(path)
		}
		return nil
	})
}

// pids returns the processes in the cgroup, and in those that were made in it. PIDs are those of
// this process's PID namespace; one that is not there is left out.
func (c *cgroup) pids() (pids []int, err error) {
	err = c.walk(c.main(), func(dir string) {
		// Of a threaded cgroup it cannot be read: its processes are above.
		content, _ := os.ReadFile(dir + "/cgroup.procs")
		for field := range strings.FieldsSeq(string(content)) {
			if pid, _ := strconv.Atoi(field); pid > 0 {
				pids = append(pids, pid)
			}
		}
	})
	return pids, err
}

// main is the hierarchy that tells best which processes there are and how they do: that of cgroup
// v2, or the one that freezes.
func (c *cgroup) main() hierarchy {
	for _, wanted := range []func(h hierarchy) bool{
		hierarchy.isV2,
		func(h hierarchy) bool { return slices.Contains(h.V1, "freezer") },
	} {
		if i := slices.IndexFunc(c.hierarchies, wanted); i >= 0 {
			return c.hierarchies[i]
		}
	}
	return c.hierarchies[0]
}

// freeze stops all processes in the cgroup where they are, or lets them go on, and waits until it
// is so. No process notices: cgroup-v2.rst, cgroup.freeze (Linux 5.2), and
// cgroup-v1/freezer-subsystem.rst.
func (c *cgroup) freeze(on bool) error {
	file, value := "/cgroup.freeze", "0"
	if on {
		value = "1"
	}
	h := c.main()
	if !h.isV2() {
		file, value = "/freezer.state", "THAWED"
		if on {
			value = "FROZEN"
		}
	}
	// In cgroup v1 a process that is just being born may be missed, until it is said again.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := writeFile(c.dir(h)+file, value); err != nil {
			return err
		}
		if c.frozen() == on {
			return nil
		}
		if time.Now().After(deadline) {
			if on {
				c.freeze(false)
			}
			return fmt.Errorf("%s: the processes in it have not come to be %s in 10 s", c.dir(h), value)
		}
	}
}

// frozen tells whether all processes in the cgroup are stopped by freeze.
func (c *cgroup) frozen() bool {
	h := c.main()
	if h.isV2() {
		frozen, _ := readCount(c.dir(h), count{"cgroup.events", "frozen"})
		return frozen == 1
	}
	state, _ := os.ReadFile(c.dir(h) + "/freezer.state")
	return strings.TrimSpace(string(state)) == "FROZEN"
}

// kill kills all processes in the cgroup. That they are gone, remove sees to.
func (c *cgroup) kill() {
	for _, h := range c.hierarchies {
		c.walk(h, killAll)
	}
	if h := c.main(); !h.isV2() { // in cgroup v1, who is frozen does not die
		writeFile(c.dir(h)+"/freezer.state", "THAWED")
	}
}

// remove removes the cgroup, if it is there, and first what keeps it from that: processes, and
// cgroups that were made in it. Those have that much time to go.
func (c *cgroup) remove(patience time.Duration) error {
	if c.v2 != nil {
		c.v2.Close()
		c.v2 = nil
	}
	deadline := time.Now().Add(patience)
	for _, h := range c.hierarchies {
		if err := c.removeDir(c.dir(h), deadline); err != nil {
			return err
		}
	}
	return nil
}

// removeDir removes the cgroup dir.
func (c *cgroup) removeDir(dir string, deadline time.Time) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		c.kill()
		inside, _ := os.ReadDir(dir)
		for _, entry := range inside {
			if entry.IsDir() {
				c.removeDir(filepath.Join(dir, entry.Name()), deadline)
			}
		}
		time.Sleep(wait)
	}
}

// killAll kills the processes in the cgroup dir. In cgroup v2, since Linux 5.14, the kernel does it
// in one go, with those in the cgroups below.
func killAll(dir string) {
	if writeFile(dir+"/cgroup.kill", "1") == nil {
		return
	}
	pids, _ := os.ReadFile(dir + "/cgroup.procs")
	for pid := range strings.FieldsSeq(string(pids)) {
		if n, _ := strconv.Atoi(pid); n > 0 { // 0 is one that our PID namespace does not show
			unix.Kill(n, unix.SIGKILL)
		}
	}
}

// mountCgroups mounts the cgroup file systems at m's destination in the directory root, read-only
// if m says so: config-linux.md, Default Filesystems. Where there is cgroup v1, each controller has
// a directory there. In a cgroup namespace of its own the container sees its cgroup as the root of
// each, so that it may read its limits: cgroup_namespaces(7). Otherwise its cgroup is all it gets.
func mountCgroups(root int, m specs.Mount, c *cgroup, ownNamespace bool) error {
	options := []string{"nosuid", "nodev", "noexec"}
	readOnly := slices.Contains(m.Options, "ro")
	if readOnly {
		options = append(options, "ro")
	}
	mountOne := func(h hierarchy, destination string) error {
		one := specs.Mount{Destination: destination, Type: "cgroup2", Source: "cgroup", Options: options}
		switch {
		case !ownNamespace:
			one.Type, one.Source = "bind", c.dir(h)
		case !h.isV2():
			one.Type, one.Options = "cgroup", slices.Concat(options, h.V1)
		}
		return mountInRoot(root, one)
	}
	if len(c.hierarchies) == 1 && c.hierarchies[0].isV2() {
		return mountOne(c.hierarchies[0], m.Destination)
	}
	top := specs.Mount{
		Destination: m.Destination, Type: "tmpfs", Source: "tmpfs",
		Options: []string{"nosuid", "nodev", "noexec", "mode=755"},
	}
	if err := mountInRoot(root, top); err != nil {
		return err
	}
	for _, h := range c.hierarchies {
		for _, name := range h.V1 {
			if err := mountOne(h, filepath.Join(m.Destination, name)); err != nil {
				return err
			}
		}
	}
	if !readOnly {
		return nil
	}
	dir, err := openInRoot(root, m.Destination, unix.O_PATH|unix.O_DIRECTORY, inRoot)
	if err != nil {
		return fmt.Errorf("open %s: %w", m.Destination, err)
	}
	defer unix.Close(dir)
	return remountReadOnly(fdPath(dir))
}

// writeFile writes value to path, one of the files that only the kernel makes.
func writeFile(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
