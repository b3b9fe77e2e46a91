package runtime

import (
	"fmt"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultUmask takes from a new file's mode what others may write: umask(2).
const defaultUmask = 0o022

// setUser makes this thread the user u, with u's groups and no others, and u's umask: setgroups(2),
// setgid(2), setuid(2). The groups come first, for a user may not change them.
//
// To the kernel, user and groups are a thread's. Go's functions change them on all threads, as
// POSIX wants it, and end the program if one of those differs. Here they do differ, for the calling
// thread alone has lost capabilities, and is all that is left after execve(2).
//
// The kernel then forgets which signal is to come at the parent's death, prctl(2): it is told
// again.
func setUser(u specs.User) error {
	var deathSignal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&deathSignal)), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	umask := defaultUmask
	if u.Umask != nil {
		umask = int(*u.Umask)
	}
	unix.Umask(umask)
	groups := append(u.AdditionalGids, 0) // with one at its end that is not counted, it has an address
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)-1), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return fmt.Errorf("setgroups %v: %w", u.AdditionalGids, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGID, uintptr(u.GID), 0, 0); errno != 0 {
		return fmt.Errorf("setgid %d: %w", u.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETUID, uintptr(u.UID), 0, 0); errno != 0 {
		return fmt.Errorf("setuid %d: %w", u.UID, errno)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(deathSignal), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return useCapabilities()
}
