package runtime

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A deviceRule says who may do what with which devices. Of two that speak of the same, the later
// counts.
type deviceRule struct {
	allow        bool
	kind         string // a (all), b (block) or c (character)
	major, minor int64  // -1: any
	access       string // of r (read), w (write) and m (mknod)
}

// deviceRules returns rules as deviceRule, after one that denies everything, and before those for
// the devices that every container has. That one may make a device does not say that it can be
// opened: packages make them, and init does.
func deviceRules(rules []specs.LinuxDeviceCgroup) ([]deviceRule, error) {
	all := []deviceRule{{false, "a", -1, -1, "rwm"}}
	for _, rule := range rules {
		r := deviceRule{rule.Allow, rule.Type, -1, -1, rule.Access}
		if rule.Major != nil {
			r.major = *rule.Major
		}
		if rule.Minor != nil {
			r.minor = *rule.Minor
		}
		if r.access == "" {
			r.access = "rwm"
		}
		if strings.Trim(r.access, "rwm") != "" || max(r.major, r.minor) > math.MaxInt32 {
			return nil, fmt.Errorf("config.json: device rule %v", r)
		}
		switch r.kind {
		case "b", "c":
			all = append(all, r)
		case "", "a":
			// What cgroup v1 calls a is everything, whatever follows.
			if r.major < 0 && r.minor < 0 && isAll(r.access) {
				all = append(all, deviceRule{r.allow, "a", -1, -1, "rwm"})
				continue
			}
			for _, kind := range []string{"b", "c"} {
				r.kind = kind
				all = append(all, r)
			}
		default:
			return nil, fmt.Errorf("config.json: device rule of type %q", r.kind)
		}
	}
	all = append(all, deviceRule{true, "b", -1, -1, "m"}, deviceRule{true, "c", -1, -1, "m"},
		deviceRule{true, "c", 136, -1, "rwm"}, // terminals in /dev/pts
		deviceRule{true, "c", 5, 1, "rwm"},    // /dev/console
		deviceRule{true, "c", 5, 2, "rwm"},    // /dev/ptmx
	)
	for _, device := range defaultDevices {
		all = append(all, deviceRule{true, device.Type, device.Major, device.Minor, "rwm"})
	}
	return all, nil
}

// isAll tells whether access is all that there is.
func isAll(access string) bool {
	return strings.Contains(access, "r") && strings.Contains(access, "w") && strings.Contains(access, "m")
}

// restrictDevices lets the processes of c use the devices that rules allow: config-linux.md,
// Allowed Device list. The kernel asks at mknod(2) and open(2).
func (c *cgroup) restrictDevices(rules []specs.LinuxDeviceCgroup) error {
	all, err := deviceRules(rules)
	if err != nil {
		return err
	}
	for _, h := range c.hierarchies {
		if slices.Contains(h.V1, "devices") {
			return writeDevices(c.dir(h), all)
		}
	}
	if c.v2 == nil {
		return errors.New("devices cannot be restricted: this host has neither the devices controller of cgroup v1 nor cgroup v2")
	}
	return attachDevices(c, all)
}

// writeDevices writes rules to cgroup v1's devices controller: cgroup-v1/devices.rst.
func writeDevices(dir string, rules []deviceRule) error {
	if err := checkExceptions(rules); err != nil {
		return err
	}
	for _, r := range rules {
		file := "/devices.deny"
		if r.allow {
			file = "/devices.allow"
		}
		if err := writeFile(dir+file, fmt.Sprintf("%s %s:%s %s", r.kind, orAny(r.major), orAny(r.minor), r.access)); err != nil {
			return err
		}
	}
	return nil
}

// checkExceptions refuses what cgroup v1 would not refuse, and would not do. It keeps a list of
// exceptions to the last rule about everything, and a rule can take back from it what an exception
// says in the same words, but not a part of what it covers.
func checkExceptions(rules []deviceRule) error {
	byDefault := false
	var exceptions []deviceRule
	for _, r := range rules {
		if r.kind == "a" {
			byDefault, exceptions = r.allow, nil
			continue
		}
		if r.allow != byDefault {
			exceptions = append(exceptions, r)
			continue
		}
		for _, e := range exceptions {
			if !e.same(r) && e.overlaps(r) {
				return fmt.Errorf("config.json: cgroup v1 cannot make an exception (%v) from an exception (%v)", r, e)
			}
		}
	}
	return nil
}

func (r deviceRule) same(o deviceRule) bool {
	return r.kind == o.kind && r.major == o.major && r.minor == o.minor
}

func (r deviceRule) overlaps(o deviceRule) bool {
	meet := func(a, b int64) bool { return a == b || a < 0 || b < 0 }
	return r.kind == o.kind && meet(r.major, o.major) && meet(r.minor, o.minor) && strings.ContainsAny(r.access, o.access)
}

// orAny is a number of a device as cgroup v1 wants it.
func orAny(number int64) string {
	if number < 0 {
		return "*"
	}
	return itoa(number)
}

// attachDevices lets the kernel ask a BPF program about devices in the directory of c in cgroup v2:
// cgroup-v2.rst, Device controller; bpf(2). The program goes with the directory.
func attachDevices(c *cgroup, rules []deviceRule) error {
	spec := &ebpf.ProgramSpec{Name: "gocker_devices", Type: ebpf.CGroupDevice, Instructions: devicesProgram(rules)}
	program, err := ebpf.NewProgram(spec)
	if errors.Is(err, unix.EPERM) {
		// Before Linux 5.11 programs count as locked memory, of which one may have little.
		var before unix.Rlimit
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if e := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unlimited, &before); e != nil {
			return errors.Join(err, e)
		}
		program, err = ebpf.NewProgram(spec)
		unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &before, nil) // for it is inherited
	}
	if err != nil {
		return fmt.Errorf("restrict devices: %w", err)
	}
	defer program.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(c.v2.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice,
		Flags: unix.BPF_F_ALLOW_MULTI, // cgroups in it may have more programs; all must agree
	})
	if err != nil {
		return fmt.Errorf("restrict devices in %s: %w", c.v2.Name(), err)
	}
	return nil
}

// devicesProgram returns the program for rules: 1 is yes, and 0 no. It looks from the last rule to
// the first, and takes away from what is wanted what a rule allows, until nothing is left.
func devicesProgram(rules []deviceRule) asm.Instructions {
	const context, kind, wanted, major, minor = asm.R1, asm.R2, asm.R3, asm.R4, asm.R5
	// struct bpf_cgroup_dev_ctx, include/uapi/linux/bpf.h in the kernel.
	program := asm.Instructions{
		asm.LoadMem(kind, context, 0, asm.Word),
		asm.Mov.Reg(wanted, kind),
		asm.And.Imm(kind, 0xffff),
		asm.RSh.Imm(wanted, 16),
		asm.LoadMem(major, context, 4, asm.Word),
		asm.LoadMem(minor, context, 8, asm.Word),
	}
	kinds := map[string]int32{"b": unix.BPF_DEVCG_DEV_BLOCK, "c": unix.BPF_DEVCG_DEV_CHAR}
	label := ""
	for i, r := range slices.Backward(rules) {
		next := fmt.Sprintf("rule %d", i-1)
		var code asm.Instructions
		if r.kind != "a" {
			code = append(code, asm.JNE.Imm(kind, kinds[r.kind], next))
		}
		if r.major >= 0 {
			code = append(code, asm.JNE.Imm(major, int32(r.major), next))
		}
		if r.minor >= 0 {
			code = append(code, asm.JNE.Imm(minor, int32(r.minor), next))
		}
		if r.allow {
			code = append(code, asm.And.Imm(wanted, ^accessBits(r.access)), asm.JNE.Imm(wanted, 0, next), asm.Mov.Imm(asm.R0, 1), asm.Return())
		} else {
			code = append(code, asm.JSet.Imm(wanted, accessBits(r.access), "no"))
		}
		if label != "" {
			code[0] = code[0].WithSymbol(label)
		}
		program = append(program, code...)
		label = next
	}
	return append(program,
		asm.Mov.Imm(asm.R0, 0).WithSymbol(label),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("no"),
		asm.Return(),
	)
}

// accessBits are the kernel's for access.
func accessBits(access string) (bits int32) {
	for letter, bit := range map[string]int32{
		"r": unix.BPF_DEVCG_ACC_READ, "w": unix.BPF_DEVCG_ACC_WRITE, "m": unix.BPF_DEVCG_ACC_MKNOD,
	} {
		if strings.Contains(access, letter) {
			bits |= bit
		}
	}
	return bits
}
