package runtime

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A limit is what to write in cgroup v2, and in v1. The files are described in the kernel's
// Documentation/admin-guide/cgroup-v2.rst, and in cgroup-v1 and scheduler/sched-bwc.rst.
type limit struct {
	v2, v1   []setting
	optional bool // where the kernel has no such file, all is as if it had been written
}

type setting struct{ file, value string }

// sameLimit is one that cgroup v2 and v1 write alike.
func sameLimit(file, value string) limit {
	same := []setting{{file, value}}
	return limit{v2: same, v1: same}
}

// limitsOf returns what r limits, in the order in which it can be set, but for pids and devices:
// config-linux.md, Control groups. A limit that is not known here is an error.
func limitsOf(r *specs.LinuxResources) ([]limit, error) {
	if err := checkResources(r); err != nil {
		return nil, err
	}
	var limits []limit
	if r.Memory != nil {
		memory, err := memoryLimits(r.Memory)
		if err != nil {
			return nil, err
		}
		limits = append(limits, memory...)
	}
	if r.CPU != nil {
		limits = append(limits, cpuLimits(r.CPU)...)
	}
	// What is written to cgroup v2 as it stands, and is nothing to cgroup v1.
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		if strings.Contains(file, "/") {
			return nil, fmt.Errorf("limit: %s is not the name of a file", file)
		}
		limits = append(limits, limit{v2: []setting{{file, r.Unified[file]}}})
	}
	return limits, nil
}

// checkResources refuses limits that nothing here sets.
func checkResources(r *specs.LinuxResources) error {
	unknown := ""
	switch {
	case r.BlockIO != nil && limitsIO(r.BlockIO):
		unknown = "blockIO"
	case len(r.HugepageLimits) > 0:
		unknown = "hugepageLimits"
	case r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0):
		unknown = "network"
	case len(r.Rdma) > 0:
		unknown = "rdma"
	case r.CPU != nil && (r.CPU.RealtimePeriod != nil || r.CPU.RealtimeRuntime != nil):
		unknown = "cpu.realtimePeriod and cpu.realtimeRuntime"
	}
	if unknown != "" {
		return fmt.Errorf("config.json: limits of %s are not supported", unknown)
	}
	return nil
}

func limitsIO(io *specs.LinuxBlockIO) bool {
	devices := len(io.WeightDevice) + len(io.ThrottleReadBpsDevice) + len(io.ThrottleWriteBpsDevice) +
		len(io.ThrottleReadIOPSDevice) + len(io.ThrottleWriteIOPSDevice)
	return devices > 0 || io.Weight != nil && *io.Weight != 0
}

// memoryLimits are in bytes; -1 is no limit, and 0 says nothing.
func memoryLimits(m *specs.LinuxMemory) (limits []limit, err error) {
	most, swap := valueOf(m.Limit), valueOf(m.Swap)
	if most == -1 && swap == 0 {
		swap = -1
	}
	if most != 0 {
		limits = append(limits, limit{
			v2: []setting{{"memory.max", orMax(most)}},
			v1: []setting{{"memory.limit_in_bytes", itoa(most)}},
		})
	}
	if swap != 0 {
		// Swap is limited by itself in cgroup v2, and together with memory in v1 and in OCI.
		own := swap
		if swap > 0 {
			own = swap - most
			if most <= 0 {
				return nil, errors.New("a limit of swap needs one of memory")
			}
			if own < 0 {
				return nil, fmt.Errorf("memory and swap cannot be limited to %d bytes, which is less than the limit of memory alone, %d", swap, most)
			}
		}
		limits = append(limits, limit{
			v2: []setting{{"memory.swap.max", orMax(own)}},
			v1: []setting{{"memory.memsw.limit_in_bytes", itoa(swap)}},
			// If none is wanted, or any, it may as well be that the kernel does not count it.
			optional: own <= 0,
		})
	}
	if low := valueOf(m.Reservation); low != 0 {
		limits = append(limits, limit{
			v2: []setting{{"memory.low", orMax(low)}},
			v1: []setting{{"memory.soft_limit_in_bytes", itoa(low)}},
		})
	}
	if m.Swappiness != nil {
		limits = append(limits, limit{v1: []setting{{"memory.swappiness", fmt.Sprint(*m.Swappiness)}}})
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		limits = append(limits, limit{v1: []setting{{"memory.oom_control", "1"}}})
	}
	return limits, nil
}

// cpuLimits are of µs of CPU time in each period of so many µs, of a share, and of what CPUs and
// memory nodes there are, like "0-2,7".
func cpuLimits(c *specs.LinuxCPU) (limits []limit) {
	if c.Shares != nil && *c.Shares != 0 {
		limits = append(limits, limit{
			v2: []setting{{"cpu.weight", fmt.Sprint(cpuWeight(*c.Shares))}},
			v1: []setting{{"cpu.shares", fmt.Sprint(*c.Shares)}},
		})
	}
	quota, period := valueOf(c.Quota), uint64(100_000) // the kernel's default
	if c.Period != nil && *c.Period != 0 {
		period = *c.Period
	}
	if quota != 0 || c.Period != nil && *c.Period != 0 {
		if quota == 0 {
			quota = -1
		}
		limits = append(limits, limit{
			v2: []setting{{"cpu.max", fmt.Sprintf("%s %d", orMax(quota), period)}},
			v1: []setting{{"cpu.cfs_period_us", fmt.Sprint(period)}, {"cpu.cfs_quota_us", itoa(quota)}},
		})
	}
	if c.Burst != nil && *c.Burst != 0 {
		burst := fmt.Sprint(*c.Burst)
		limits = append(limits, limit{v2: []setting{{"cpu.max.burst", burst}}, v1: []setting{{"cpu.cfs_burst_us", burst}}})
	}
	if idle := valueOf(c.Idle); idle != 0 {
		limits = append(limits, sameLimit("cpu.idle", itoa(idle)))
	}
	if c.Cpus != "" {
		limits = append(limits, sameLimit("cpuset.cpus", c.Cpus))
	}
	if c.Mems != "" {
		limits = append(limits, sameLimit("cpuset.mems", c.Mems))
	}
	return limits
}

// cpuWeight converts a share of CPU time as cgroup v1 counts it (2 to 262144, usually 1024) into
// one of v2 (1 to 10000, usually 100). Least, usual and most go into each other by runc's formula.
func cpuWeight(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262_144 {
		return 10_000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// set sets a limit in the hierarchy that has the file for it.
func (c *cgroup) set(l limit) error {
	for _, h := range c.hierarchies {
		settings := l.v1
		if h.isV2() {
			settings = l.v2
		}
		if len(settings) == 0 {
			continue
		}
		err := writeSettings(c.dir(h), settings)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if l.optional {
		return nil
	}
	return fmt.Errorf("limit: no cgroup of this host has the file for it (cgroup v2: %v; v1: %v): %w", l.v2, l.v1, os.ErrNotExist)
}

func writeSettings(dir string, settings []setting) error {
	for _, s := range settings {
		if err := writeFile(dir+"/"+s.file, s.value); err != nil {
			return err
		}
	}
	return nil
}

// setPids sets how many processes and threads there may be. In cgroup v2 init's threads count, too:
// so this comes when it starts none any more.
func (c *cgroup) setPids() error {
	if c.pidsLimit == 0 {
		return nil
	}
	return c.set(sameLimit("pids.max", orMax(c.pidsLimit)))
}

func valueOf(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// orMax is n as cgroup v2 wants it; -1 is no limit.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}
