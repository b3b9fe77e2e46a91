package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controllers are those that we use: cgroups(7). cpuacct, of cgroup v1, only counts.
var controllers = []string{"cpu", "cpuacct", "memory", "pids"}

// A hierarchy is a tree of cgroups: cgroup v2 has one for everything, cgroup v1 several, a hybrid
// host both.
type hierarchy struct {
	Root string   // where the host has mounted it
	V1   []string // its controllers, if it is of cgroup v1
}

// findHierarchies returns those that this host has mounted and we need: proc(5), mountinfo.
func findHierarchies() (found []hierarchy, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var devices []string
	for line := range strings.Lines(string(mounts)) {
		mount, filesystem, _ := strings.Cut(line, " - ")
		where, what := strings.Fields(mount), strings.Fields(filesystem)
		h := hierarchy{Root: where[4]}
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

// isV2 tells whether h is of cgroup v2.
func (h hierarchy) isV2() bool { return h.V1 == nil }

// dir is the directory of container id's cgroup in h.
func (h hierarchy) dir(id string) string { return h.Root + "/gocker/" + id }

// A cgroup is that of a container: a directory in each hierarchy.
type cgroup struct {
	id          string
	hierarchies []hierarchy
	v2          *os.File // the one of cgroup v2, or nil
}

// create makes the cgroup, with all limits but that of processes, which run sets. What it has made
// stays, also if it fails.
func (c *cgroup) create(l limits) error {
	for _, h := range c.hierarchies {
		if err := os.MkdirAll(h.Root+"/gocker", 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(h.dir(c.id), 0o755); err != nil {
			return err
		}
		if h.isV2() {
			if err := enableControllers(h.Root); err != nil {
				return err
			}
			if err := enableControllers(h.Root + "/gocker"); err != nil {
				return err
			}
			dir, err := os.Open(h.dir(c.id))
			if err != nil {
				return err
			}
			c.v2 = dir
		}
	}
	if l.memory > 0 {
		if err := c.set("memory.max", l.memory, "memory.limit_in_bytes", l.memory); err != nil {
			return err
		}
		// Swap is limited by itself in cgroup v2, and together with memory in v1. If none is
		// wanted, it may as well be that the kernel does not count it.
		err := c.set("memory.swap.max", l.swap, "memory.memsw.limit_in_bytes", l.memory+l.swap)
		if err != nil && !(l.swap == 0 && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	if l.cpu > 0 { // of a period of 100 ms
		return c.set("cpu.max", l.cpu, "cpu.cfs_quota_us", l.cpu)
	}
	return nil
}

// set sets a limit: it writes value to file, which is what cgroup v2 has for it, or valueV1 to fileV1.
// The files are described in the kernel's Documentation/admin-guide/cgroup-v2.rst, and in cgroup-v1 and
// scheduler/sched-bwc.rst.
func (c *cgroup) set(file string, value int64, fileV1 string, valueV1 int64) error {
	for _, h := range c.hierarchies {
		path, text := filepath.Join(h.dir(c.id), fileV1), strconv.FormatInt(valueV1, 10)
		if h.isV2() {
			path, text = filepath.Join(h.dir(c.id), file), strconv.FormatInt(value, 10)
		}
		err := writeFile(path, text)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("limit: no cgroup of this host has a file %s or %s: %w", file, fileV1, os.ErrNotExist)
}

// enableControllers gives the cgroups in dir, of cgroup v2, the controllers of dir.
func enableControllers(dir string) error {
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

// removeCgroup removes the cgroup dir, if it is there, and first, until the deadline, what keeps it from
// that: processes, and cgroups that were made in it.
func removeCgroup(dir string, deadline time.Time) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		killAll(dir)
		inside, _ := os.ReadDir(dir)
		for _, entry := range inside {
			if entry.IsDir() {
				removeCgroup(filepath.Join(dir, entry.Name()), deadline)
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

// joinCgroups moves this thread, which will be the command's, into the cgroup of the container id.
// The Go runtime's other threads stay where they are, and do not count. A thread moves at once; a
// process has to wait for all CPUs (synchronize_rcu in the kernel). In cgroup v2, where only a
// process can move, init is born.
func joinCgroups(id string, hierarchies []hierarchy) error {
	for _, h := range hierarchies {
		if !h.isV2() {
			if err := writeFile(h.dir(id)+"/tasks", "0"); err != nil {
				return err
			}
		}
	}
	return nil
}

// unshareCgroups makes the cgroup that this thread is in the root of all that is seen from here:
// cgroup_namespaces(7).
func unshareCgroups() error { return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWCGROUP)) }

// mountCgroups shows the container its cgroup, and so its limits, in /sys/fs/cgroup, where it cannot
// change them. Where there is cgroup v1, each controller has a directory there.
func mountCgroups(hierarchies []hierarchy) error {
	const top, flags = "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if len(hierarchies) == 1 && hierarchies[0].isV2() {
		return mount("cgroup2", top, "cgroup2", flags|unix.MS_RDONLY, "")
	}
	if err := mount("tmpfs", top, "tmpfs", flags, "mode=755"); err != nil {
		return err
	}
	for _, h := range hierarchies {
		for _, name := range h.V1 {
			if err := os.Mkdir(top+"/"+name, 0o755); err != nil {
				return err
			}
			if err := mount("cgroup", top+"/"+name, "cgroup", flags|unix.MS_RDONLY, strings.Join(h.V1, ",")); err != nil {
				return err
			}
		}
	}
	return mount("tmpfs", top, "tmpfs", flags|unix.MS_REMOUNT|unix.MS_RDONLY, "")
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
