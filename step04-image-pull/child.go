package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A child is another gocker, which this one has started.
type child struct {
	pid      int
	pidfd    int // stays this process even when its PID is used again: pidfd_open(2)
	socket   *os.File
	answers  chan answer // what comes through the socket; closed at its end of file
	ownGroup bool        // it is not in our process group
	terminal *terminal
	ended    bool
	status   unix.WaitStatus // how it has ended: wait4(2)
}

// startChild starts this program again as "gocker COMMAND", with what attr says: clone(2). It
// cannot just go on as a copy of itself, as after fork(2): the copy would have one of the
// threads of a Go program, and the runtime needs the others.
func startChild(command string, attr *syscall.SysProcAttr) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[1])
	c := &child{socket: os.NewFile(uintptr(pair[0]), "socket"), answers: make(chan answer)}
	c.terminal = findTerminal()
	c.ownGroup = c.terminal.ours || !isTerminal(0)
	attr.Setpgid = c.ownGroup
	attr.PidFD = &c.pidfd

	// All signals are blocked in the child until it is the command. So none ends it
	// half-way there, and none is lost. A thread has its own mask, and a child its
	// parent's: signal(7).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask, err := blockSignals()
	if err != nil {
		c.socket.Close()
		return nil, fmt.Errorf("sigprocmask: %w", err)
	}
	c.pid, err = syscall.ForkExec("/proc/self/exe", []string{"gocker", command}, &syscall.ProcAttr{
		Env:   []string{}, // an environment is meant for the command alone
		Files: []uintptr{0, 1, 2, uintptr(pair[1])},
		Sys:   attr,
	})
	restoreSignals(mask)
	if err != nil {
		c.socket.Close()
		return nil, fmt.Errorf("clone: %w", err)
	}
	go c.listen()
	c.terminal.give(c.pid)
	return c, nil
}

// listen passes on what the child says, until the end of file.
func (c *child) listen() {
	decoder := json.NewDecoder(c.socket)
	for {
		var a answer
		if err := decoder.Decode(&a); err != nil {
			close(c.answers)
			return
		}
		c.answers <- a
	}
}

// signal sends s to the child: pidfd_send_signal(2).
func (c *child) signal(s unix.Signal) {
	unix.PidfdSendSignal(c.pidfd, s, nil, 0) // fails only if the child has ended
}

// kill ends the child if it has not ended, and forgets it.
func (c *child) kill() {
	c.signal(unix.SIGKILL)
	if !c.ended {
		c.reap(0)
	}
	c.terminal.takeBack()
	c.socket.Close()
	unix.Close(c.pidfd)
}
