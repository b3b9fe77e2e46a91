package runtime

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func init() {
	some := []string{"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_BPF"}
	root := &specs.LinuxCapabilities{Bounding: some, Effective: some[:1], Permitted: some}
	ambient := &specs.LinuxCapabilities{Bounding: some, Effective: some, Permitted: some, Inheritable: some, Ambient: some[:1]}
	nobody := specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 5}, Umask: pointer[uint32](0o077)}
	children["root"] = func() error { return change(specs.User{}, root) }
	children["root without"] = func() error { return change(specs.User{}, nil) }
	children["user"] = func() error { return change(nobody, root) }
	children["user with ambient"] = func() error { return change(nobody, ambient) }
	children["masks"] = func() error {
		for _, dir := range []string{"/run", "/mnt"} {
			if err := mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				return err
			}
		}
		for name, text := range map[string]string{"/run/secret": "x", "/run/keep": "y", "/mnt/file": "z"} {
			if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
				return err
			}
		}
		if err := os.Symlink("secret", "/run/link"); err != nil {
			return err
		}
		if err := maskPaths([]string{"/run/link", "/run/absent", "/mnt", "/proc/keys"}, ""); err != nil {
			return err
		}
		if err := readonlyPaths([]string{"/run/keep", "/run/absent", "/proc/sys"}); err != nil {
			return err
		}
		secret, _ := os.ReadFile("/run/secret")
		inside, _ := os.ReadDir("/mnt")
		keys, _ := os.ReadFile("/proc/keys")
		for _, path := range []string{"/run/keep", "/mnt/new", "/proc/sys/kernel/domainname"} {
			err := os.WriteFile(path, []byte("x"), 0o644)
			fmt.Println(strings.Contains(fmt.Sprint(err), "read-only file system"))
		}
		fmt.Println(len(secret), len(inside), len(keys))
		return nil
	}
	children["devices"] = func() error {
		if err := mount("tmpfs", "/dev", "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		err := makeDevices([]specs.LinuxDevice{
			{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: pointer(os.FileMode(0o600)), GID: pointer[uint32](5)},
			{Path: "/dev/a/fifo", Type: "p"},
		})
		if err != nil {
			return err
		}
		for _, name := range []string{"null", "zero", "tty", "a/fifo"} {
			var stat unix.Stat_t
			if err := unix.Lstat("/dev/"+name, &stat); err != nil {
				return err
			}
			fmt.Printf("%s %o %d:%d %d:%d\n", name, stat.Mode, unix.Major(stat.Rdev), unix.Minor(stat.Rdev), stat.Uid, stat.Gid)
		}
		return nil
	}
}

// change is the middle of become. It prints what can be seen of it.
func change(u specs.User, c *specs.LinuxCapabilities) error {
	if err := dropBounding(c); err != nil {
		return err
	}
	if err := keepCapabilities(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGUSR1), 0, 0, 0); err != nil {
		return err
	}
	if err := setUser(u); err != nil {
		return err
	}
	var signal int32
	err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0)
	if err != nil || signal != int32(unix.SIGUSR1) {
		return fmt.Errorf("the signal at the parent's death is %d, %v", signal, err)
	}
	// As become does, with capabilities that the command may not have.
	filter, err := compileSeccomp(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow})
	if err != nil {
		return err
	}
	if err := loadSeccomp(filter, nil); err != nil {
		return err
	}
	if err := applyCapabilities(c); err != nil {
		return err
	}
	return syscall.Exec("/bin/sh", []string{"sh", "-c", "grep -E '^(Uid|Gid|Groups|Umask|Cap)' /proc/self/status; id -u"}, nil)
}

func TestUserAndCapabilities(t *testing.T) {
	for name, want := range map[string]string{
		"root": "Umask:0022 Uid:0000 Gid:0000 Groups: CapInh:0000000000000000 CapPrm:0000008000040001 " +
			"CapEff:0000008000040001 CapBnd:0000008000040001 CapAmb:0000000000000000 0",
		"root without": "Umask:0022 Uid:0000 Gid:0000 Groups: CapInh:0000000000000000 CapPrm:0000000000000000 " +
			"CapEff:0000000000000000 CapBnd:0000000000000000 CapAmb:0000000000000000 0",
		"user": "Umask:0077 Uid:1000100010001000 Gid:1001100110011001 Groups:51001 CapInh:0000000000000000 CapPrm:0000000000000000 " +
			"CapEff:0000000000000000 CapBnd:0000008000040001 CapAmb:0000000000000000 1000",
		"user with ambient": "Umask:0077 Uid:1000100010001000 Gid:1001100110011001 Groups:51001 CapInh:0000008000040001 CapPrm:0000000000000001 " +
			"CapEff:0000000000000001 CapBnd:0000008000040001 CapAmb:0000000000000001 1000",
	} {
		output, _ := inChild(t, name)
		var lines []string
		for _, line := range strings.Split(output, "\n") {
			lines = append(lines, strings.Join(strings.Fields(line), ""))
		}
		if got := strings.Join(lines, " "); got != want {
			t.Errorf("%s:\n%s, not\n%s", name, got, want)
		}
	}
}

func TestMaskedAndReadOnlyPaths(t *testing.T) {
	if output, _ := inChild(t, "masks"); output != "true\ntrue\ntrue\n0 0 0" {
		t.Error(output)
	}
}

func TestDevices(t *testing.T) {
	want := "null 20600 1:3 0:5\nzero 20666 1:5 0:0\ntty 20666 5:0 0:0\na/fifo 10666 0:0 0:0"
	if output, _ := inChild(t, "devices"); output != want {
		t.Error(output)
	}
}

func TestSysctlsOfTheHostAreRefused(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward": "net/ipv4/ip_forward", "net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax": "kernel/shmmax", "fs.mqueue.msg_max": "fs/mqueue/msg_max",
		"kernel.core_pattern": "", "net/../kernel/core_pattern": "", "net....kernel.core_pattern": "", "netx": "", "net": "", "": "", "vm.swappiness": "",
		"/net/ipv4/ip_forward": "", "kernel.shmmax/": "", "net.//.kernel.core_pattern": "",
	} {
		if path, _, err := sysctlPath(key); path != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", key, path, err)
		}
	}
	s := &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{"net.ipv4.ip_forward": "1"}}}
	if checkSysctls(s) == nil {
		t.Error("the host's network can be changed")
	}
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}
	if err := checkSysctls(s); err != nil {
		t.Error(err)
	}
}
