package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rlimits are the names of resource limits: getrlimit(2). They are the same on all of our
// architectures.
var rlimits = map[string]int{
	"RLIMIT_AS":         unix.RLIMIT_AS,
	"RLIMIT_CORE":       unix.RLIMIT_CORE,
	"RLIMIT_CPU":        unix.RLIMIT_CPU,
	"RLIMIT_DATA":       unix.RLIMIT_DATA,
	"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
	"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE":       unix.RLIMIT_NICE,
	"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
	"RLIMIT_RSS":        unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK":      unix.RLIMIT_STACK,
}

// setRlimits sets resource limits of this process, in the units of getrlimit(2): config.md, POSIX
// process. To raise a hard limit needs CAP_SYS_RESOURCE.
//
// Go raises the soft limit of open files when it starts, and execve(2) through Go takes that back.
// It does not if the limit was set through Go, as here.
func setRlimits(limits []specs.POSIXRlimit) error {
	for _, limit := range limits {
		resource, ok := rlimits[limit.Type]
		if !ok {
			return fmt.Errorf("unknown resource limit %q", limit.Type)
		}
		err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: limit.Soft, Max: limit.Hard}, nil)
		if err != nil {
			return fmt.Errorf("set %s to %d, at most %d: %w", limit.Type, int64(limit.Soft), int64(limit.Hard), err)
		}
	}
	return nil
}
