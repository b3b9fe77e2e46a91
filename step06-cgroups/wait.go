package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// wait hands signals on to the child, which is the command by now, until that has ended,
// and returns the status that a shell would report: 128+n if signal n has ended it.
func (c *child) wait(signals *signals) (int, error) {
	signals.taker <- c.handOn
	defer func() { signals.taker <- func(unix.Signal) {} }()
	for {
		if err := c.reap(unix.WUNTRACED); err != nil {
			return 0, err
		}
		if c.ended {
			break
		}
		// ^Z has stopped the command. All of the caller's job is to stop, until its shell continues
		// it; and the command is to go on if there is no shell to do that.
		if (c.terminal.takeBack() || inForeground()) && !stopJob() {
			c.handOn(unix.SIGCONT)
		}
	}
	if c.status.Signaled() {
		return 128 + int(c.status.Signal()), nil
	}
	return c.status.ExitStatus(), nil
}

// stopJob stops gocker and its process group, and returns when they go on. It does not if gocker's
// parent is not of its session, and so no shell that could continue it.
func stopJob() bool {
	parent := unix.Getppid() // 0 if it is outside of our PID namespace
	theirs, err := unix.Getsid(parent)
	ours, _ := unix.Getsid(0)
	return parent != 0 && err == nil && theirs == ours && unix.Kill(0, unix.SIGSTOP) == nil
}

// handOn hands on a signal to the child.
func (c *child) handOn(n unix.Signal) {
	if !c.ownGroup && (n == unix.SIGINT || n == unix.SIGQUIT) && inForeground() {
		return // ^C or ^\, which the terminal has sent to all of our group
	}
	if n == unix.SIGCONT && c.ownGroup { // ^Z has stopped all of it
		if inForeground() {
			c.terminal.give(c.pid)
		}
		unix.Kill(-c.pid, n)
		return
	}
	c.signal(n)
}

// reap waits until the child has ended or, with WUNTRACED among options, was stopped.
func (c *child) reap(options int) error {
	_, err := unix.Wait4(c.pid, &c.status, options, nil)
	for err == unix.EINTR {
		_, err = unix.Wait4(c.pid, &c.status, options, nil)
	}
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	c.ended = !c.status.Stopped()
	return nil
}
