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
	"unsafe"

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
	others := []string{"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "seclabel"}
	return slices.Contains(others, option) || strings.Contains(option, "=")
}

// isV2 tells whether h is of cgroup v2.
func (h hierarchy) isV2() bool { return h.V1 == nil }

// dir is the directory of container id's cgroup in h.
func (h hierarchy) dir(id string) string { return h.Root + "/gocker/" + id }

// createCgroup makes the cgroup of the container id, a directory in each hierarchy, with all
// limits of l but that of processes, which init sets. It returns the one of cgroup v2, open, or
// -1 if there is none. What it has made stays, also if it fails.
func createCgroup(id string, hierarchies []hierarchy, l limits) (v2 int, err error) {
	v2 = -1
	for _, h := range hierarchies {
		if err := os.MkdirAll(h.dir(id), 0o755); err != nil {
			return v2, err
		}
		if h.isV2() {
			for _, dir := range []string{h.Root, h.Root + "/gocker"} {
				if err := enableControllers(dir); err != nil {
					return v2, err
				}
			}
			if v2, err = unix.Open(h.dir(id), unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
				return v2, fmt.Errorf("open %s: %w", h.dir(id), err)
			}
		}
	}
	if l.memory > 0 {
		if err := setLimit(id, hierarchies, "memory.max", l.memory, "memory.limit_in_bytes", l.memory); err != nil {
			return v2, err
		}
		// Swap is limited by itself in cgroup v2, and together with memory in v1. A kernel may not
		// count it. That is an error only if some was asked for; docker goes on, too, and warns.
		err := setLimit(id, hierarchies, "memory.swap.max", l.swap, "memory.memsw.limit_in_bytes", l.memory+l.swap)
		if l.swap == 0 && errors.Is(err, os.ErrNotExist) {
			report(errors.New("--mem: this kernel counts no swap: what the container swaps is not limited"))
		} else if err != nil {
			return v2, err
		}
	}
	if l.cpu > 0 { // of a period of 100 ms
		return v2, setLimit(id, hierarchies, "cpu.max", l.cpu, "cpu.cfs_quota_us", l.cpu)
	}
	return v2, nil
}

// setLimit writes value to file, which is what cgroup v2 has for a limit, or valueV1 to fileV1. The
// files are described in the kernel's Documentation/admin-guide/cgroup-v2.rst, and in cgroup-v1 and
// scheduler/sched-bwc.rst.
func setLimit(id string, hierarchies []hierarchy, file string, value int64, fileV1 string, valueV1 int64) error {
	for _, h := range hierarchies {
		path, n := h.dir(id)+"/"+fileV1, valueV1
		if h.isV2() {
			path, n = h.dir(id)+"/"+file, value
		}
		if _, err := os.Stat(path); err == nil {
			return os.WriteFile(path, []byte(strconv.FormatInt(n, 10)), 0)
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
	err = os.WriteFile(dir+"/cgroup.subtree_control", []byte(enable), 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: a cgroup that has processes cannot give controllers to cgroups in it; "+
			"move the processes that are in %s itself, as those of a container are, to a cgroup below it", err, dir)
	}
	return err
}

// removeCgroup removes the cgroup dir, if it is there, and first, until the deadline, what keeps
// it from that: processes, and cgroups that were made in it.
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
	if os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0) == nil {
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
// process has to wait for all CPUs (synchronize_rcu in the kernel). A cgroup of v2 needs no move:
// init was born in it (CLONE_INTO_CGROUP). Its threads could be in different cgroups only if those
// were "threaded", which cannot limit memory.
func joinCgroups(id string, hierarchies []hierarchy) error {
	for _, h := range hierarchies {
		if !h.isV2() {
			if err := os.WriteFile(h.dir(id)+"/tasks", []byte("0"), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// unshareCgroups makes the cgroup that this thread is in the root of all that is seen from here:
// cgroup_namespaces(7).
func unshareCgroups() error { return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWCGROUP)) }

// mountCgroups shows the container its cgroup, and so its limits, in /sys/fs/cgroup, where it
// cannot change them. Where there is cgroup v1, each controller has a directory there.
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

// openPidsMax opens the file that limits the processes and threads of the container id. That can be
// done as long as the root is the host's.
func openPidsMax(id string, hierarchies []hierarchy) (fd int, err error) {
	for _, h := range hierarchies {
		fd, err = unix.Open(h.dir(id)+"/pids.max", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			break
		}
	}
	return fd, os.NewSyscallError("open pids.max", err)
}

// writeLast writes n to the open file fd of a cgroup. In cgroup v2 all threads of a process count,
// and the command may be allowed only one. So this comes last, when init starts none any more, and
// is a raw system call: Go gives up if it wants a thread and does not get it for 210 ms.
func writeLast(fd int, n int64) error {
	text := strconv.AppendInt(nil, n, 10)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	if errno != 0 {
		return fmt.Errorf("write %d to a cgroup: %w", n, errno)
	}
	return nil
}
