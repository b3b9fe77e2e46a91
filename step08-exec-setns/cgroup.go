package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// limits are what the processes of a container may have together; 0 is no limit.
type limits struct {
	memory, swap int64 // bytes; if memory is limited, swap is, be it to 0
	cpu          int64 // µs of CPU time in every 100 ms
	pids         int64 // processes and threads
}

// addFlags adds the flags of run that set l. A value that is not good is an error
// of the command line, before anything is set up.
func (l *limits) addFlags(flags *pflag.FlagSet) {
	flags.Func("mem", "", func(s string) (err error) { l.memory, err = parseSize(s, "6m"); return err })
	flags.Func("swap", "", func(s string) (err error) { l.swap, err = parseSize(s, "1b"); return err })
	flags.Func("cpus", "", func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0.01 && n <= float64(runtime.NumCPU())) {
			return fmt.Errorf("not a number from 0.01 to %d, the CPUs of this host", runtime.NumCPU())
		}
		l.cpu = int64(n * 100_000)
		return nil
	})
	flags.Func("pids", "", func(s string) (err error) {
		if l.pids, err = strconv.ParseInt(s, 10, 23); err != nil || l.pids < 1 {
			return errors.New("not a whole number from 1 to 4194303")
		}
		return nil
	})
}

// parseSize returns the bytes of a size as docker writes it. Without a unit it is
// one in MB.
func parseSize(s, least string) (int64, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "m"
	}
	size, err := units.RAMInBytes(s)
	if min, _ := units.RAMInBytes(least); err != nil || size < min {
		return 0, fmt.Errorf("not a size of at least %s, like 64m", least)
	}
	return size, nil
}

// A cgroup is a directory gocker/ID in each of the host's hierarchies that we need:
// cgroup v2 has one for everything, cgroup v1 several, a hybrid host both: cgroups(7).
type cgroup struct {
	dirs []*os.File // all of them, claimed
	v2   *os.File   // the one of cgroup v2, or nil
	v1   []string   // the paths of the others
	pids *os.File   // pids.max, if it is to be limited, for a lastWrite
}

// hierarchies matches the lines of /proc/self/mountinfo, proc(5), for them.
var hierarchies = regexp.MustCompile(`(?m)^\S+ \S+ (\S+) \S+ (\S+) .* - (?:(cgroup2) .*|cgroup .*\b(?:cpu|cpuacct|memory|pids)\b.*)$`)

// makeCgroup makes the cgroup of the container id. What it returns is to be removed
// even if it fails.
func makeCgroup(id string, max limits) (c cgroup, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return c, err
	}
	seen := map[string]bool{}
	for _, m := range hierarchies.FindAllStringSubmatch(string(mounts), -1) {
		device, root, isV2 := m[1], m[2], m[3] != ""
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil || seen[device] {
			continue // hidden by another mount, or mounted twice
		}
		seen[device] = true
		dir, err := claimDir(root+"/gocker", id, removeCgroup)
		if err != nil {
			return c, err
		}
		c.dirs = append(c.dirs, dir)
		if !isV2 {
			c.v1 = append(c.v1, dir.Name())
			continue
		}
		c.v2 = dir
		if err := cmp.Or(enableControllers(root), enableControllers(root+"/gocker")); err != nil {
			return c, err
		}
	}
	if len(c.dirs) == 0 {
		return c, errors.New("no cgroup hierarchy is mounted; try: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return c, c.limit(max)
}

// enableControllers gives the cgroups in dir, of cgroup v2, the controllers of dir.
func enableControllers(dir string) error {
	has, err := os.ReadFile(dir + "/cgroup.controllers")
	for controller := range strings.FieldsSeq(string(has)) {
		if err == nil && slices.Contains([]string{"cpu", "memory", "pids"}, controller) {
			err = writeFile(dir+"/cgroup.subtree_control", "+"+controller)
		}
	}
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: move the processes that are in %s itself, as those of a container are, "+
			"to a cgroup below it", err, dir)
	}
	return err
}

// limit sets the limits max: Documentation/admin-guide/cgroup-v2.rst in the kernel,
// and cgroup-v1 beside it.
func (c *cgroup) limit(max limits) error {
	type set struct {
		file  string
		value int64
	}
	for _, limit := range []struct {
		max    int64
		v2, v1 set
	}{
		{max.memory, set{"memory.max", max.memory}, set{"memory.limit_in_bytes", max.memory}},
		{max.memory, set{"memory.swap.max", max.swap}, set{"memory.memsw.limit_in_bytes", max.memory + max.swap}},
		{max.cpu, set{"cpu.max", max.cpu}, set{"cpu.cfs_quota_us", max.cpu}},
		{max.pids, set{"pids.max", max.pids}, set{"pids.max", max.pids}},
	} {
		if limit.max == 0 {
			continue
		}
		err := fs.ErrNotExist
		for _, dir := range c.dirs {
			set := limit.v1
			if dir == c.v2 {
				set = limit.v2
			}
			if path := filepath.Join(dir.Name(), set.file); set.file == "pids.max" {
				c.pids, err = os.OpenFile(path, os.O_WRONLY, 0)
			} else {
				err = writeFile(path, strconv.FormatInt(set.value, 10))
			}
			if !errors.Is(err, fs.ErrNotExist) {
				break // this hierarchy is the one that has the file
			}
		}
		if errors.Is(err, fs.ErrNotExist) && limit.v2.value == 0 {
			continue // no swap is wanted, and the kernel does not count it
		} else if err != nil {
			return fmt.Errorf("limit: %w", err)
		}
	}
	return nil
}

// joinCgroups moves this process into the cgroups dirs, of cgroup v1. Into one of
// cgroup v2 it was born.
func joinCgroups(dirs []string) (err error) {
	for _, dir := range dirs {
		err = cmp.Or(err, writeFile(dir+"/cgroup.procs", "0"))
	}
	return err
}

// A lastWrite is what init writes to an open file of a cgroup when it is ready for the
// command. Init is a Go program, and has threads, which must not be counted or limited.
type lastWrite struct {
	fd    int
	value string
}

// execAfter is execve(2) right after the writes last. If the Go runtime wanted a thread
// in between and were not allowed any, it would crash. So these are raw system calls,
// which it does not notice. An error of write(2) is an *os.SyscallError.
func execAfter(last []lastWrite, path string, argv, env []string) error {
	if len(last) == 0 {
		return unix.Exec(path, argv, env)
	}
	file, e1 := unix.BytePtrFromString(path)
	args, e2 := syscall.SlicePtrFromStrings(argv)
	vars, e3 := syscall.SlicePtrFromStrings(env)
	if err := cmp.Or(e1, e2, e3); err != nil {
		return err
	}
	// Go raises the soft limit of open files, and lowers it for others in this call,
	// though there is nothing to execute: getrlimit(2), package os.
	unix.Exec("", nil, nil)
	for _, w := range last {
		value := unsafe.Pointer(unsafe.StringData(w.value))
		if _, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(w.fd), uintptr(value), uintptr(len(w.value))); e != 0 {
			return os.NewSyscallError("write to a cgroup", e)
		}
	}
	_, _, e := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(file)),
		uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&vars[0])))
	return e
}

// remove removes the cgroup, after it has killed what still lives there.
func (c *cgroup) remove() (err error) {
	for _, dir := range c.dirs {
		err = errors.Join(err, removeCgroup(dir.Name()), dir.Close())
	}
	return err
}

// removeCgroup removes the cgroup dir, and first what keeps it from that: processes,
// and cgroups that the container has made in it.
func removeCgroup(dir string) (err error) {
	for range 500 { // 5 s
		if err = os.Remove(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		inside, _ := os.ReadDir(dir)
		for _, entry := range inside {
			if entry.IsDir() {
				removeCgroup(filepath.Join(dir, entry.Name()))
			}
		}
		pids, _ := os.ReadFile(dir + "/cgroup.procs")
		for pid := range strings.FieldsSeq(string(pids)) {
			if n, _ := strconv.Atoi(pid); n > 0 { // 0 is one that our PID namespace does not show
				unix.Kill(n, unix.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// writeFile writes value to path, one of the files that only the kernel makes.
func writeFile(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return cmp.Or(err, file.Close())
}
