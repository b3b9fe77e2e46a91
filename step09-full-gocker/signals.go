package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
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
// by which the Go runtime stops its threads, and 32 to 34, which Go leaves to C libraries;
// and SIGPROF, which the runtime keeps for itself, whoever asks for it.
func catchSignals() *signals {
	s := &signals{come: make(chan os.Signal, 64), handler: make(chan func(unix.Signal))}
	s.Context, s.cancel = context.WithCancelCause(context.Background())
	for n := unix.Signal(1); n <= runtime.LastSignal; n++ {
		own := n == unix.SIGCHLD || n == unix.SIGPIPE || n == unix.SIGURG || n >= 32 && n <= 34
		if !own && (n == unix.SIGINT || !signal.Ignored(n)) {
			signal.Notify(s.come, n)
		}
	}
	go s.deliver()
	return s
}

// deliver gives signals to their handler. The first handler gets the early ones, too.
func (s *signals) deliver() {
	var early []unix.Signal
	take := func(n unix.Signal) {
		early = append(early, n)
		if runtime.IsFatal(n) {
			s.cancel(interruption(n))
		}
	}
	for {
		select {
		case n := <-s.come:
			take(n.(unix.Signal))
		case take = <-s.handler:
			for _, n := range early {
				take(n)
			}
			early = nil
		}
	}
}
