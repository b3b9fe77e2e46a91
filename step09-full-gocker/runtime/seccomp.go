package runtime

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A filter is a program that the kernel runs at every system call, in the machine language of
// classic BPF: seccomp(2), bpf(4). It sees a struct seccomp_data: the number of the system call,
// the architecture that the number is to be understood in, and the six arguments. It cannot look
// where an argument points to, and it only jumps forward. What it returns is what happens.
//
// A filter here is a search tree for each architecture. Its leaves are ranges of numbers to which
// the same happens, or one number whose rules have conditions.

// Where things are in struct seccomp_data. All of our architectures are little-endian.
const (
	numberOffset    = 0
	archOffset      = 4
	argumentsOffset = 16 // eight bytes each, of which the lower four come first
)

// x32Bit is set in the numbers of x32's system calls, an amd64 with short pointers, whose
// architecture is called the same.
const x32Bit = 0x4000_0000

// A rule says what happens at a system call if all conditions are true.
type rule struct {
	number     uint32
	action     uint32 // SECCOMP_RET_…: seccomp(2)
	conditions []specs.LinuxSeccompArg
}

// A span says what happens at system calls from a number up to the next span's.
type span struct {
	first  uint32
	rules  []rule // that have conditions: the first one that is true counts
	action uint32 // if none is
	wide   bool   // arguments have 64 bits
}

// compileSeccomp makes a filter of the description s: config-linux.md, Seccomp. It means what it
// means to libseccomp and runc, which wrote the descriptions that there are: see collectRules. Nil
// has none.
func compileSeccomp(s *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	if s == nil {
		return nil, nil
	}
	byDefault, err := seccompAction(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	// Who makes system calls of an architecture that s does not name is killed, with all its
	// threads.
	program := []bpf.Instruction{bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}}
	for _, group := range architectures(s) {
		var spans []span
		for _, a := range group {
			more, err := a.spans(s, byDefault)
			if err != nil {
				return nil, err
			}
			spans = append(spans, more...)
		}
		tree := append([]bpf.Instruction{bpf.LoadAbsolute{Off: numberOffset, Size: 4}}, searchTree(spans)...)
		program = branch(bpf.JumpEqual, uint32(group[0].info.ID), tree, program)
	}
	program = append([]bpf.Instruction{bpf.LoadAbsolute{Off: archOffset, Size: 4}}, program...)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	if len(raw) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp: a filter of %d instructions; the kernel takes %d", len(raw), unix.BPF_MAXINSNS)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, instruction := range raw {
		filter[i] = unix.SockFilter{Code: instruction.Op, Jt: instruction.Jt, Jf: instruction.Jf, K: instruction.K}
	}
	return filter, nil
}

// loadSeccomp lets the kernel run filter at each system call that this thread makes from now on,
// and the threads and processes that come from it: seccomp(2). That needs CAP_SYS_ADMIN or
// no_new_privs.
func loadSeccomp(filter []unix.SockFilter, names []specs.LinuxSeccompFlag) error {
	flags := uintptr(0)
	if names == nil { // as runc: the filter need not cost what Spectre v4's mitigation does
		flags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	}
	for _, name := range names {
		switch name {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // for other threads; execve(2) ends those
		default:
			return fmt.Errorf("seccomp: unknown flag %s", name)
		}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// seccompAction returns the filter's value for an action: seccomp(2), Filter return values.
func seccompAction(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = uint32(*errno) & unix.SECCOMP_RET_DATA
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActNotify:
		return 0, errors.New("seccomp: SCMP_ACT_NOTIFY is not supported")
	}
	return 0, fmt.Errorf("seccomp: unknown action %q", action)
}

// An architecture is one that this machine has system calls of.
type architecture struct {
	name specs.Arch
	info *arch.Info
}

// architectures returns those of s, and always the machine's own, grouped by how the kernel calls
// them. Others, which a description may have for other machines, are left out.
func architectures(s *specs.LinuxSeccomp) [][]architecture {
	native := architecture{specs.ArchX86_64, arch.X86_64}
	others := []architecture{{specs.ArchX32, arch.X32}, {specs.ArchX86, arch.I386}}
	if runtime.GOARCH == "arm64" {
		native = architecture{specs.ArchAARCH64, arch.AARCH64}
		others = []architecture{{specs.ArchARM, arch.ARM}}
	}
	groups := [][]architecture{{native}}
	for _, other := range others {
		switch {
		case !slices.Contains(s.Architectures, other.name):
		case other.info.ID == native.info.ID:
			groups[0] = append(groups[0], other)
		default:
			groups = append(groups, []architecture{other})
		}
	}
	return groups
}

// spans tells what happens at every number from a's first one on.
func (a architecture) spans(s *specs.LinuxSeccomp, byDefault uint32) ([]span, error) {
	rules, last, err := a.collectRules(s, byDefault)
	if err != nil {
		return nil, err
	}
	spans := []span{{first: uint32(a.info.SeccompMask), action: byDefault}}
	add := func(next span) {
		if spans[len(spans)-1].first == next.first { // it is empty
			spans = spans[:len(spans)-1]
		}
		if len(spans) > 0 {
			before := spans[len(spans)-1]
			if len(before.rules)+len(next.rules) == 0 && before.action == next.action {
				return // it goes on
			}
		}
		spans = append(spans, next)
	}
	for len(rules) > 0 {
		number := rules[0].number
		end := slices.IndexFunc(rules, func(r rule) bool { return r.number != number })
		if end < 0 {
			end = len(rules)
		}
		add(a.oneCall(rules[:end], byDefault))
		add(span{first: number + 1, action: byDefault})
		rules = rules[end:]
	}
	switch byDefault & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		if a.info == arch.X86_64 && !slices.Contains(s.Architectures, specs.ArchX32) {
			// x32 is then an architecture that is not named. -1 is no system call: a tracer puts it
			// in the place of one that it skips, ptrace(2).
			add(span{first: x32Bit, action: unix.SECCOMP_RET_KILL_PROCESS})
			add(span{first: 0xffff_ffff, action: byDefault})
		}
	default:
		// What is newer than all that s knows does not exist, rather than being forbidden: so
		// libraries fall back to what is older. As runc does it.
		if last > 0 {
			add(span{first: last + 1, action: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
		}
	}
	return spans, nil
}

// oneCall returns the span of one number, about which rules are. The first that has no conditions,
// if there is one, is the only one that counts.
func (a architecture) oneCall(rules []rule, byDefault uint32) span {
	for _, r := range rules {
		if len(r.conditions) == 0 {
			return span{first: r.number, action: r.action}
		}
	}
	wide := a.info == arch.X86_64 || a.info == arch.AARCH64
	return span{rules[0].number, rules, byDefault, wide}
}

// collectRules returns the rules of s for a's system calls, by their numbers, and otherwise in the
// order of s, and the last number that s speaks of. Names that a does not have are left out, and so
// are rules that say what is done by default anyway.
func (a architecture) collectRules(s *specs.LinuxSeccomp, byDefault uint32) (rules []rule, last uint32, err error) {
	rules = make([]rule, 0, len(a.info.SyscallNumbers))
	add := func(number, action uint32, conditions []specs.LinuxSeccompArg) {
		last = max(last, number)
		if action != byDefault {
			rules = append(rules, rule{number, action, conditions})
		}
	}
	numbers := a.numbers()
	for _, call := range s.Syscalls {
		action, err := seccompAction(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, 0, err
		}
		alternatives, err := alternatives(call.Args)
		if err != nil {
			return nil, 0, fmt.Errorf("seccomp: %v: %w", call.Names, err)
		}
		for _, name := range call.Names {
			if number, ok := numbers(name); ok {
				for _, conditions := range alternatives {
					add(number, action, conditions)
				}
			}
			// Who comes by a multiplexer has its arguments behind a pointer. So an allowance that
			// depends on them is none there, and whatever else does is for all.
			multiplexer, condition := a.multiplexed(name)
			if multiplexer != 0 && (len(call.Args) == 0 || action != unix.SECCOMP_RET_ALLOW) {
				add(multiplexer, action, condition)
			}
		}
	}
	return sortRules(rules), last, nil
}

// sortRules returns rules by their numbers, and otherwise as they were. To sort a number and an
// index as one number is several times faster, which a start would notice.
func sortRules(rules []rule) []rule {
	keys := make([]uint64, len(rules))
	for i, r := range rules {
		keys[i] = uint64(r.number)<<32 | uint64(i)
	}
	slices.Sort(keys)
	sorted := make([]rule, len(rules))
	for i, key := range keys {
		sorted[i] = rules[uint32(key)]
	}
	return sorted
}

// alternatives returns conditions as the lists of those that must be true together. That is one
// list, unless two are about the same argument: then each is one, as in runc.
func alternatives(conditions []specs.LinuxSeccompArg) (lists [][]specs.LinuxSeccompArg, err error) {
	var seen [6]bool
	repeated := false
	for _, c := range conditions {
		if c.Index > 5 {
			return nil, fmt.Errorf("a condition for argument %d; there are six, from 0 on", c.Index)
		}
		if _, ok := comparisons[c.Op]; !ok {
			return nil, fmt.Errorf("unknown operator %q", c.Op)
		}
		repeated = repeated || seen[c.Index]
		seen[c.Index] = true
	}
	if !repeated {
		return [][]specs.LinuxSeccompArg{conditions}, nil
	}
	for _, c := range conditions {
		lists = append(lists, []specs.LinuxSeccompArg{c})
	}
	return lists, nil
}

// newNumbers are those that the tables of package arch do not have yet. Since Linux 5.1 a new call
// has the same number everywhere.
var newNumbers = map[string]uint32{
	"file_getattr":     unix.SYS_FILE_GETATTR,
	"file_setattr":     unix.SYS_FILE_SETATTR,
	"listns":           unix.SYS_LISTNS,
	"rseq_slice_yield": unix.SYS_RSEQ_SLICE_YIELD,
}

// numbers returns a function that tells the number of the system call name, if a has it.
func (a architecture) numbers() func(name string) (uint32, bool) {
	base := uint32(a.info.SeccompMask)
	special := map[string]uint32{}
	if a.info == arch.X32 {
		// Where x32 and amd64 take different structures, the table has both numbers; x32's are
		// these: arch/x86/entry/syscalls/syscall_64.tbl in the kernel.
		for number := uint32(512); number <= 547; number++ {
			if name, ok := a.info.SyscallNumbers[int(number)]; ok {
				special[name] = number
			}
		}
	}
	if a.info == arch.AARCH64 {
		special["newfstatat"] = uint32(a.info.SyscallNames["fstatat"]) // the kernel's name for it
	}
	return func(name string) (uint32, bool) {
		if number, ok := special[name]; ok {
			return base | number, true
		}
		if number, ok := a.info.SyscallNames[name]; ok {
			return base | uint32(number), true
		}
		number, ok := newNumbers[name]
		return base | number, ok
	}
}

// socketCalls and ipcCalls are what i386 has two ways to: a call of its own, since Linux 4.3 and
// 5.1, and one for all, whose first argument tells which: socketcall(2), ipc(2). The indices are
// those of include/uapi/linux/net.h and ipc.h in the kernel.
var (
	socketCalls = []string{1: "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername",
		"socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt",
		"sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg"}
	ipcCalls = []string{1: "semop", "semget", "semctl", "semtimedop", 11: "msgsnd", "msgrcv", "msgget", "msgctl",
		21: "shmat", "shmdt", "shmget", "shmctl"}
)

// multiplexed returns the number of the call through which name can be reached as well, and the
// condition under which it is; or 0.
func (a architecture) multiplexed(name string) (uint32, []specs.LinuxSeccompArg) {
	if a.info != arch.I386 {
		return 0, nil
	}
	multiplexer := "socketcall"
	index := slices.Index(socketCalls, name)
	if index < 0 {
		multiplexer = "ipc"
		index = slices.Index(ipcCalls, name)
	}
	if index < 0 {
		return 0, nil
	}
	condition := specs.LinuxSeccompArg{Index: 0, Value: uint64(index), Op: specs.OpEqualTo}
	return uint32(a.info.SyscallNames[multiplexer]), []specs.LinuxSeccompArg{condition}
}

// branch returns code that goes on with yes if the test of the accumulator is true, and with no
// otherwise. Neither may run over its end. A conditional jump is no longer than 255 instructions.
func branch(test bpf.JumpTest, value uint32, yes, no []bpf.Instruction) []bpf.Instruction {
	code := make([]bpf.Instruction, 0, 2+len(no)+len(yes))
	if len(no) <= 255 {
		code = append(code, bpf.JumpIf{Cond: test, Val: value, SkipTrue: uint8(len(no))})
	} else {
		code = append(code, bpf.JumpIf{Cond: test, Val: value, SkipFalse: 1}, bpf.Jump{Skip: uint32(len(no))})
	}
	return append(append(code, no...), yes...)
}

// searchTree returns code that finds the span of the number in the accumulator and does what that
// says. There is one for every number.
func searchTree(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		return spans[0].code()
	}
	middle := len(spans) / 2
	return branch(bpf.JumpGreaterOrEqual, spans[middle].first, searchTree(spans[middle:]), searchTree(spans[:middle]))
}

// code returns code that returns s's action.
func (s span) code() (code []bpf.Instruction) {
	for _, r := range s.rules {
		// From the end, for what is false jumps behind it.
		tail := []bpf.Instruction{bpf.RetConstant{Val: r.action}}
		for _, condition := range slices.Backward(r.conditions) {
			tail = append(conditionCode(condition, s.wide, uint8(len(tail))), tail...)
		}
		code = append(code, tail...)
	}
	return append(code, bpf.RetConstant{Val: s.action})
}

// comparisons are what the operators do to the upper and lower half of an argument.
var comparisons = map[specs.LinuxSeccompOperator]struct {
	more, less bool         // the result if the upper half is greater or smaller than the value's
	lower      bpf.JumpTest // what decides otherwise
}{
	specs.OpEqualTo:      {false, false, bpf.JumpEqual},
	specs.OpMaskedEqual:  {false, false, bpf.JumpEqual},
	specs.OpNotEqual:     {true, true, bpf.JumpNotEqual},
	specs.OpGreaterThan:  {true, false, bpf.JumpGreaterThan},
	specs.OpGreaterEqual: {true, false, bpf.JumpGreaterOrEqual},
	specs.OpLessThan:     {false, true, bpf.JumpLessThan},
	specs.OpLessEqual:    {false, true, bpf.JumpLessOrEqual},
}

// conditionCode returns code that goes on behind itself if the condition c is true, and otherwise
// skips as many instructions. The accumulator has 32 bits, so that an argument is compared in
// halves.
func conditionCode(c specs.LinuxSeccompArg, wide bool, skip uint8) []bpf.Instruction {
	comparison := comparisons[c.Op]
	offset := argumentsOffset + 8*uint32(c.Index)
	value, mask := c.Value, ^uint64(0)
	if c.Op == specs.OpMaskedEqual {
		value, mask = c.ValueTwo&c.Value, c.Value
	}
	load := func(offset, mask uint32) []bpf.Instruction {
		code := []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 4}}
		if mask != 0xffff_ffff {
			code = append(code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		return code
	}
	lower := append(load(offset, uint32(mask)), bpf.JumpIf{Cond: comparison.lower, Val: uint32(value), SkipFalse: skip})
	if !wide {
		return lower
	}
	// How far to jump over what follows here, if the result is known already.
	target := func(result bool, between int) uint8 {
		if result {
			return uint8(len(lower) + between)
		}
		return uint8(len(lower)+between) + skip
	}
	code := load(offset+4, uint32(mask>>32))
	if comparison.more != comparison.less {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(value >> 32), SkipTrue: target(comparison.more, 1)})
	}
	code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(value >> 32), SkipFalse: target(comparison.less, 0)})
	return append(code, lower...)
}
