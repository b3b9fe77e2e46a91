package main

import (
	"context"
	"os"
	"os/signal"
	"unsafe"

	"golang.org/x/sys/unix"
)

// signals are those that gocker is sent. Until the command is there, one that would end it
// ends its start instead, and the context is done. Later ones are the command's.
type signals struct {
	context.Context
	cancel  context.CancelCauseFunc
	come    chan os.Signal
	handler chan func(unix.Signal) // who gets them from now on
}

// An interruption is the error of a start that a signal has ended.
type interruption unix.Signal

func (i interruption) Error() string { return unix.Signal(i).String() + " signal received" }

// catchSignals takes from now on all signals that can be handed on, so that none ends
// gocker before it has cleaned up. What gocker's caller ignores stays ignored, as nohup(1)
// wants it, but for SIGINT: a shell script ignores that for whatever it starts with "&".
// Left out are SIGCHLD and SIGPIPE, which are about gocker's own child and socket, SIGURG,
// by which the Go runtime stops its threads, and 32 to 34, which Go leaves to C libraries.
// SIGPROF is asked for, but in vain: the runtime keeps it for itself.
func catchSignals() *signals {
	s := &signals{come: make(chan os.Signal, 64), handler: make(chan func(unix.Signal))}
	s.Context, s.cancel = context.WithCancelCause(context.Background())
	for n := unix.Signal(1); n <= lastSignal; n++ {
		own := n == unix.SIGCHLD || n == unix.SIGPIPE || n == unix.SIGURG || n >= 32 && n <= 34
		if !own && (n == unix.SIGINT || !signal.Ignored(n)) {
			signal.Notify(s.come, n)
		}
	}
	go s.deliver()
	return s
}

const lastSignal = 64 // SIGRTMAX: signal(7)

// deliver gives signals to the handler. The first one that comes gets the early signals, too.
func (s *signals) deliver() {
	var early []unix.Signal
	handle := func(n unix.Signal) {
		if obeyTerminal(n) {
			return
		}
		early = append(early, n)
		if isFatal(n) {
			s.cancel(interruption(n))
		}
	}
	for {
		select {
		case n := <-s.come:
			handle(n.(unix.Signal))
		case handle = <-s.handler:
			for _, n := range early {
				handle(n)
			}
			early = nil
		}
	}
}

// isFatal tells whether n ends a process that does nothing about it: signal(7).
func isFatal(n unix.Signal) bool {
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
// It fails if a signal has come meanwhile that ends the start. One that stops the process, as
// ^Z does, is forgotten, as SIGCONT has it: gocker waits for the command to begin.
//
// These are raw system calls, for this one thread, the last before execve(2). The kernel's
// struct sigaction, 32 bytes, is all zero for SIG_DFL: rt_sigaction(2).
func forgetSignals() error {
	var pending uint64
	unix.RawSyscall(unix.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&pending)), 8, 0)
	for n := unix.Signal(1); n <= lastSignal; n++ {
		if pending&(1<<(n-1)) != 0 && isFatal(n) {
			return interruption(n)
		}
	}
	var byDefault [4]uint64
	for n := uintptr(1); n <= lastSignal; n++ {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
	unix.RawSyscall(unix.SYS_KILL, uintptr(unix.Getpid()), uintptr(unix.SIGCONT), 0)
	var none uint64
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	return nil
}
