package runtime

import (
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultProfile is docker's, for a container with docker's default capabilities.
func defaultProfile() (*specs.LinuxSeccomp, error) {
	return seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{
		Bounding: []string{
			"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
			"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
		},
	}}})
}

func init() {
	children["default profile"] = func() error {
		s, err := defaultProfile()
		if err != nil {
			return err
		}
		return underFilter(s, tryAll)
	}
	children["one architecture"] = func() error {
		return underFilter(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, func(i386 func(number, argument uintptr) uintptr) {
			try("getuid", unix.SYS_GETUID)
			i386(199, 0)
			fmt.Println("i386 getuid has returned")
		})
	}
}

// underFilter calls f under the filter for s, with a function that makes system calls of i386.
func underFilter(s *specs.LinuxSeccomp, f func(i386 func(number, argument uintptr) uintptr)) error {
	filter, err := compileSeccomp(s)
	if err != nil {
		return err
	}
	i386, err := i386Call()
	if err != nil {
		return err
	}
	if err := loadSeccomp(filter, s.Flags); err != nil {
		return err
	}
	f(i386)
	return nil
}

// try makes a system call, and prints what comes of it.
func try(name string, number uintptr, arguments ...uintptr) {
	arguments = append(arguments, 0, 0, 0)
	result, _, errno := unix.RawSyscall(number, arguments[0], arguments[1], arguments[2])
	if errno != 0 {
		fmt.Println(name, unix.ErrnoName(errno))
		return
	}
	fmt.Println(name, int32(result))
}

func tryAll(i386 func(number, argument uintptr) uintptr) {
	try("mount", unix.SYS_MOUNT)
	try("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	try("clone", unix.SYS_CLONE, unix.CLONE_NEWUSER)
	try("clone3", unix.SYS_CLONE3)
	try("ptrace", unix.SYS_PTRACE, unix.PTRACE_CONT, 1<<31-1)
	try("bpf", unix.SYS_BPF)
	try("keyctl", unix.SYS_KEYCTL)
	for _, persona := range []uintptr{0xffff_ffff, 8, 0, 0x0040000} {
		try(fmt.Sprintf("personality %#x", persona), unix.SYS_PERSONALITY, persona)
	}
	try("socket AF_VSOCK", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)
	try("socket AF_ALG", unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET)
	try("socket 1<<32|AF_UNIX", unix.SYS_SOCKET, 1<<32|unix.AF_UNIX, unix.SOCK_STREAM)
	try("socket AF_UNIX", unix.SYS_SOCKET, unix.AF_UNIX, 0)
	try("number 600", 600)
	if runtime.GOARCH == "amd64" {
		try("number 400", 400)
		try("x32 mount", x32Bit|unix.SYS_MOUNT)
		try("x32 getuid", x32Bit|unix.SYS_GETUID)
		fmt.Println("i386 getuid", int32(i386(199, 0)))
		fmt.Println("i386 mount", unix.ErrnoName(unix.Errno(-int32(i386(21, 0)))))
		fmt.Println("i386 socketcall", unix.ErrnoName(unix.Errno(-int32(i386(102, 0)))))
	}
}

// i386Call returns a function that makes a system call of i386: Go passes a number and an argument in
// the registers in which the kernel wants them.
func i386Call() (func(number, argument uintptr) uintptr, error) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	copy(page, []byte{0xcd, 0x80, 0xc3}) // int $0x80; ret
	if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return nil, err
	}
	code := &page[0]
	function := &code
	return *(*func(number, argument uintptr) uintptr)(unsafe.Pointer(&function)), nil
}

func TestDockersDefaultProfileAllowsAndForbidsWhatItSays(t *testing.T) {
	output, state := inChild(t, "default profile")
	if !state.Success() {
		t.Fatalf("%v: %s", state, output)
	}
	for _, want := range []string{
		"mount EPERM", "unshare EPERM", "clone EPERM", "clone3 ENOSYS", "ptrace ESRCH", "bpf EPERM", "keyctl EPERM",
		"personality 0xffffffff 0", "personality 0x8 0", "personality 0x0 8", "personality 0x40000 EPERM",
		"socket AF_VSOCK EPERM", "socket AF_ALG EPERM", "socket 1<<32|AF_UNIX EPERM", "socket AF_UNIX ESOCKTNOSUPPORT",
		"number 600 ENOSYS",
	} {
		if !slices.Contains(strings.Split(output, "\n"), want) {
			t.Errorf("not %q", want)
		}
	}
	if runtime.GOARCH == "amd64" {
		for _, want := range []string{"number 400 EPERM", "x32 mount EPERM", "i386 getuid 0", "i386 mount EPERM", "i386 socketcall EINVAL"} {
			if !slices.Contains(strings.Split(output, "\n"), want) {
				t.Errorf("not %q", want)
			}
		}
	}
	if t.Failed() {
		t.Log(output)
	}
}

func TestACallOfAnArchitectureThatIsNotNamedKills(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 has another one in every processor")
	}
	output, state := inChild(t, "one architecture")
	if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGSYS {
		t.Errorf("%v: %s", state, output)
	}
	if output != "getuid 0" {
		t.Errorf("it printed %q", output)
	}
}

// TestFilterMeansWhatTheRulesSay compares filters for rules at random with what the rules say.
func TestFilterMeansWhatTheRulesSay(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the names below are for amd64")
	}
	random := rand.New(rand.NewSource(1))
	names := []string{"read", "write", "clone", "clone3", "personality", "ioctl", "execve", "ptrace", "bpf", "recvfrom"}
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKillProcess, specs.ActTrap, specs.ActLog}
	operators := []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
	}
	values := []uint64{0, 1, 2, 5, 0xff, 0xffffffff, 0x1_0000_0000, 0x1_0000_0001, ^uint64(0), 0x7e020000, 0x1_00000005, 0x8000_0000}
	value := func() uint64 { return values[random.Intn(len(values))] }
	for range 500 {
		s := &specs.LinuxSeccomp{DefaultAction: actions[random.Intn(len(actions))], Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32}}
		for range random.Intn(30) {
			call := specs.LinuxSyscall{Names: []string{names[random.Intn(len(names))]}, Action: actions[random.Intn(len(actions))]}
			indices := random.Perm(6)
			for i := range random.Intn(4) {
				call.Args = append(call.Args, specs.LinuxSeccompArg{
					Index: uint(indices[i]), Value: value(), ValueTwo: value(), Op: operators[random.Intn(len(operators))],
				})
			}
			s.Syscalls = append(s.Syscalls, call)
		}
		filter, err := compileSeccomp(s)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			info := []*arch.Info{arch.X86_64, arch.I386, arch.X32}[random.Intn(3)]
			name := names[random.Intn(len(names))]
			number, _ := architecture{info: info}.numbers()(name)
			call := callData{number: number, arch: uint32(info.ID)}
			for i := range call.arguments {
				call.arguments[i] = value()
			}
			got, want := call.run(t, filter), meaning(s, info, name, call)
			if got != want && got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
				t.Fatalf("%s %s %x: %#x, not %#x, in %+v", info.Name, name, call, got, want, s)
			}
		}
	}
}

// meaning tells what the rules of s say of a call.
func meaning(s *specs.LinuxSeccomp, info *arch.Info, name string, call callData) uint32 {
	result, _ := seccompAction(s.DefaultAction, nil)
	byDefault, found := result, false
	for _, rule := range s.Syscalls {
		action, _ := seccompAction(rule.Action, nil)
		if rule.Names[0] != name || action == byDefault {
			continue
		}
		if len(rule.Args) == 0 {
			return action
		}
		if !found && allTrue(rule.Args, info == arch.X86_64, call) {
			result, found = action, true
		}
	}
	return result
}

func allTrue(conditions []specs.LinuxSeccompArg, wide bool, call callData) bool {
	for _, c := range conditions {
		argument, value, two := call.arguments[c.Index], c.Value, c.ValueTwo
		if !wide {
			argument, value, two = argument&0xffffffff, value&0xffffffff, two&0xffffffff
		}
		ok := map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: argument == value, specs.OpNotEqual: argument != value,
			specs.OpLessThan: argument < value, specs.OpLessEqual: argument <= value,
			specs.OpGreaterThan: argument > value, specs.OpGreaterEqual: argument >= value,
			specs.OpMaskedEqual: argument&value == two&value,
		}[c.Op]
		if !ok {
			return false
		}
	}
	return true
}

func TestFilterReachesFarOverManyConditions(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read"}, Action: specs.ActAllow}, {Names: []string{"execve"}, Action: specs.ActAllow},
	}}
	for value := range uint64(300) {
		args := []specs.LinuxSeccompArg{{Index: 1, Value: value << 33, Op: specs.OpEqualTo}}
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"write", "ioctl"}, Action: specs.ActAllow, Args: args})
	}
	filter, err := compileSeccomp(s)
	if err != nil {
		t.Fatal(err)
	}
	native := architectures(s)[0][0]
	for _, one := range []struct {
		name     string
		argument uint64
		want     uint32
	}{
		{"read", 0, unix.SECCOMP_RET_ALLOW}, {"execve", 0, unix.SECCOMP_RET_ALLOW},
		{"write", 299 << 33, unix.SECCOMP_RET_ALLOW}, {"ioctl", 0, unix.SECCOMP_RET_ALLOW},
		{"ioctl", 300 << 33, unix.SECCOMP_RET_ERRNO | 1}, {"close", 0, unix.SECCOMP_RET_ERRNO | 1},
	} {
		number, _ := native.numbers()(one.name)
		call := callData{number: number, arch: uint32(native.info.ID), arguments: [6]uint64{1: one.argument}}
		if got := call.run(t, filter); got != one.want {
			t.Errorf("%s %#x: %#x", one.name, one.argument, got)
		}
	}
}

func TestSocketsOfI386CannotBeReachedByTheOtherWay(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("i386 is amd64's")
	}
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86}, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"socket", "send"}, Action: specs.ActErrno},
	}}
	filter, err := compileSeccomp(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		number   uint32
		argument uint64
		want     uint32
	}{
		{359, 0, unix.SECCOMP_RET_ERRNO | 1}, {102, 1, unix.SECCOMP_RET_ERRNO | 1}, {102, 2, unix.SECCOMP_RET_ALLOW}, {102, 9, unix.SECCOMP_RET_ERRNO | 1},
	} {
		call := callData{number: one.number, arch: uint32(arch.I386.ID), arguments: [6]uint64{one.argument}}
		if got := call.run(t, filter); got != one.want {
			t.Errorf("%d(%d): %#x", one.number, one.argument, got)
		}
	}
}

func TestEveryNameOfTheProfileHasItsNumber(t *testing.T) {
	foreign := []string{"arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"}
	for _, a := range []*arch.Info{arch.X86_64, arch.AARCH64} {
		numbers := architecture{info: a}.numbers()
		for _, name := range []string{"newfstatat", "openat2", "statx", "clone3", "mseal", "file_getattr", "faccessat2"} {
			if _, ok := numbers(name); !ok {
				t.Errorf("%s: no %s", a.Name, name)
			}
		}
	}
	all := []func(string) (uint32, bool){}
	for _, a := range []*arch.Info{arch.X86_64, arch.I386, arch.X32, arch.AARCH64, arch.ARM} {
		all = append(all, architecture{info: a}.numbers())
	}
	for _, call := range seccomp.DefaultProfile().Syscalls {
		if call.Includes != nil && len(call.Includes.Arches) > 0 {
			continue // of one architecture
		}
		for _, name := range call.Names {
			known := slices.ContainsFunc(all, func(numbers func(string) (uint32, bool)) bool { _, ok := numbers(name); return ok })
			if !known && !slices.Contains(append(foreign, "riscv_hwprobe"), name) {
				t.Errorf("nobody has %s", name)
			}
		}
	}
	x32 := architecture{info: arch.X32}.numbers()
	if number, _ := x32("ioctl"); number != x32Bit|514 {
		t.Errorf("x32's ioctl is %d", number)
	}
}

func TestBadDescriptionsAreErrors(t *testing.T) {
	for _, s := range []*specs.LinuxSeccomp{
		{DefaultAction: "SCMP_ACT_MAYBE"},
		{DefaultAction: specs.ActNotify},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: "SCMP_ACT_MAYBE"}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_ALMOST"}}}}},
	} {
		if _, err := compileSeccomp(s); err == nil {
			t.Errorf("no error for %+v", s)
		}
	}
}

func BenchmarkCompileDefaultProfile(b *testing.B) {
	s, err := defaultProfile()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		filter, err := compileSeccomp(s)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(filter)), "instructions")
	}
}
