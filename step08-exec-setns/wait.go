package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// wait hands signals on to the child, which is the command by now, until that has ended,
// and returns the status that a shell would report: 128+n if signal n has ended it.
func (c *child) wait(signals *signals) (int, error) {
	signals.handler <- c.handOn
	defer func() { signals.handler <- func(n unix.Signal) { obeyTerminal(n) } }()
	for {
		if err := c.reap(unix.WUNTRACED); err != nil {
			return 0, err
		}
		if c.ended {
			break
		}
		if c.ownGroup { // otherwise what stops the command comes to gocker, too
			c.stopped()
		}
	}
	if c.status.Signaled() {
		return 128 + int(c.status.Signal()), nil
	}
	return c.status.ExitStatus(), nil
}

// stopped stops the caller's job if it is the terminal that has stopped the command: by ^Z in the
// foreground, or as it wanted to read or to write in the background. If nobody would continue the
// job, the command that has the terminal goes on.
func (c *child) stopped() {
	c.terminal.takeBack()
	foreground, by := inForeground(), c.status.StopSignal()
	if !foreground && by != unix.SIGTTIN && by != unix.SIGTTOU {
		return
	}
	if !stopJob() && foreground {
		c.handOn(unix.SIGCONT)
	}
}

// handOn hands on a signal to the child.
func (c *child) handOn(n unix.Signal) {
	if !c.ownGroup && (obeyTerminal(n) || (n == unix.SIGINT || n == unix.SIGQUIT) && inForeground()) {
		return // ^C or ^\, or what stops: the terminal has sent it to all of our group
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
