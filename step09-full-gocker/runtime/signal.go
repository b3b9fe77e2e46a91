package runtime

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LastSignal is SIGRTMAX: signal(7).
const LastSignal = 64

// IsFatal tells whether n ends a process that does nothing about it: signal(7).
func IsFatal(n unix.Signal) bool {
	switch n {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// blockSignals blocks all signals for this thread and the children that it starts, and
// returns what restoreSignals restores.
func blockSignals() (before unix.Sigset_t, err error) {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	return before, unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before)
}

func restoreSignals(before unix.Sigset_t) { unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }

// forgetSignals makes this process one that has nothing to do with signals: it does with
// each what is the default, also with those that gocker's caller ignored, and blocks none.
// It fails if a signal has come meanwhile that ends the start.
//
// These are raw system calls, for this one thread, the last before execve(2). The kernel's
// struct sigaction, 32 bytes, is all zero for SIG_DFL: rt_sigaction(2).
func forgetSignals() error {
	var pending uint64
	unix.RawSyscall(unix.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&pending)), 8, 0)
	for n := unix.Signal(1); n <= LastSignal; n++ {
		if pending&(1<<(n-1)) != 0 && IsFatal(n) {
			return Failure{fmt.Errorf("signal %d came before the command", n), 128 + int(n)}
		}
	}
	var byDefault [4]uint64
	for n := uintptr(1); n <= LastSignal; n++ {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
	var none uint64
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	return nil
}
