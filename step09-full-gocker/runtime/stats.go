package runtime

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stats are what a container uses, and may use. What the host does not count is 0.
type Stats struct {
	MemoryUsage uint64        // bytes, without files that are cached but have not been used lately
	MemoryLimit uint64        // bytes: that of the container, or all that the host has
	CPU         time.Duration // CPU time since the container was created
	PIDs        uint64        // processes and threads
	PIDsLimit   uint64        // 0 is none
	OOMKills    uint64        // processes that the kernel has killed for want of memory
}

// Pause stops all of the container's processes where they are. Resume lets them go on.
func (c *Container) Pause() error {
	cg, err := c.cgroup()
	if err != nil {
		return err
	}
	return cg.freeze(true)
}

// Resume undoes Pause.
func (c *Container) Resume() error {
	cg, err := c.cgroup()
	if err != nil {
		return err
	}
	return cg.freeze(false)
}

// PIDs returns the container's processes, by their PIDs on the host.
func (c *Container) PIDs() ([]int, error) {
	cg, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	return cg.pids()
}

// Stats tells what the container uses. After its end it can be asked until Delete.
func (c *Container) Stats() (Stats, error) {
	cg, err := c.cgroup()
	if err != nil {
		return Stats{}, err
	}
	return cg.stats()
}

// stats reads the files that limits.go tells about.
func (c *cgroup) stats() (s Stats, err error) {
	if _, err := os.Stat(c.dir(c.main())); err != nil {
		return s, err
	}
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return s, os.NewSyscallError("sysinfo", err)
	}
	s.MemoryUsage = c.read(count{"memory.current", ""}, count{"memory.usage_in_bytes", ""})
	cached := c.read(count{"memory.stat", "inactive_file"}, count{"memory.stat", "total_inactive_file"})
	if cached < s.MemoryUsage {
		s.MemoryUsage -= cached
	}
	s.MemoryLimit = host.Totalram * uint64(host.Unit)
	if limit := c.read(count{"memory.max", ""}, count{"memory.limit_in_bytes", ""}); limit > 0 {
		s.MemoryLimit = min(s.MemoryLimit, limit)
	}
	s.CPU = time.Duration(c.read(count{}, count{"cpuacct.usage", ""})) * time.Nanosecond
	if s.CPU == 0 {
		s.CPU = time.Duration(c.read(count{"cpu.stat", "usage_usec"}, count{})) * time.Microsecond
	}
	s.PIDs = c.read(count{"pids.current", ""}, count{"pids.current", ""})
	s.PIDsLimit = c.read(count{"pids.max", ""}, count{"pids.max", ""})
	s.OOMKills = c.read(count{"memory.events", "oom_kill"}, count{"memory.oom_control", "oom_kill"})
	return s, nil
}

// A count is a number in a file: the one after key, or all that is in it.
type count struct{ file, key string }

// read returns a number that cgroup v2 or v1 has, whichever is there; no number, like "max", is 0.
func (c *cgroup) read(v2, v1 count) uint64 {
	for _, h := range c.hierarchies {
		which := v1
		if h.isV2() {
			which = v2
		}
		if which.file == "" {
			continue
		}
		if number, err := readCount(c.dir(h), which); !errors.Is(err, os.ErrNotExist) {
			return number
		}
	}
	return 0
}

// readCount reads a number in the directory dir.
func readCount(dir string, which count) (uint64, error) {
	content, err := os.ReadFile(dir + "/" + which.file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		text, ok := line, true
		if which.key != "" {
			text, ok = strings.CutPrefix(line, which.key+" ")
		}
		if ok {
			return strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		}
	}
	return 0, nil
}
