package main

import (
	"os"
	"os/signal"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A terminal sends ^C to one process group, the one in its foreground, and lets no other
// read from it: credentials(7). A shell in a container wants to be that group, as it does
// everywhere, and ^C is to reach the command once: from the terminal, not from gocker too.
type terminal struct {
	ours bool // it is gocker's to give: gocker has it, and reads from and writes to nothing else
	sync.Mutex
	given bool
}

// findTerminal returns the terminal that gocker runs on.
func findTerminal() *terminal {
	var files [3]unix.Stat_t
	for fd := range files {
		if !isTerminal(fd) || unix.Fstat(fd, &files[fd]) != nil {
			return &terminal{}
		}
	}
	same := files[0].Rdev == files[1].Rdev && files[1].Rdev == files[2].Rdev
	return &terminal{ours: same && inForeground()}
}

// isTerminal tells whether fd is a terminal: ioctl_tty(2).
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// inForeground tells whether gocker's process group is the one in the foreground of its
// terminal.
func inForeground() bool {
	group, err := foregroundGroup()
	return err == nil && group == unix.Getpgrp()
}

// foregroundGroup returns the process group in the foreground of gocker's terminal. Without a
// terminal there is no /dev/tty, and it fails.
func foregroundGroup() (int, error) {
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(tty)
	return unix.IoctlGetInt(tty, unix.TIOCGPGRP)
}

// give lets the process group of the child pid have the terminal, if it is ours.
func (t *terminal) give(pid int) {
	t.Lock()
	defer t.Unlock()
	if t.ours {
		t.given = setForeground(pid)
	}
}

// takeBack gives the terminal back to gocker's process group, if the child has it.
func (t *terminal) takeBack() {
	t.Lock()
	defer t.Unlock()
	if t.given {
		setForeground(unix.Getpgrp())
	}
	t.given = false
}

// setForeground puts a process group into the foreground of the terminal at stdin. Who does
// that from the background is stopped by SIGTTOU, unless that is blocked: tcsetpgrp(3).
func setForeground(group int) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask, err := blockSignals()
	if err != nil {
		return false
	}
	defer restoreSignals(mask)
	return unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group) == nil
}

// obeyTerminal tells whether n is one of the signals by which a terminal stops a job, and stops
// gocker's, as it would have been if gocker did not catch them: by ^Z, or because a process
// wants to read or to write in the background. In the foreground that is an old wish, which
// the shell has fulfilled.
func obeyTerminal(n unix.Signal) bool {
	foreground, err := foregroundGroup()
	if err != nil || n != unix.SIGTSTP && n != unix.SIGTTIN && n != unix.SIGTTOU {
		return false
	}
	if n == unix.SIGTSTP || foreground != unix.Getpgrp() {
		stopJob()
	}
	return true
}

// stopJob stops gocker and its process group, and returns when they go on. It does nothing if
// gocker's parent is in another session: then it is no shell that could continue the job.
func stopJob() bool {
	parent := unix.Getppid() // 0 if it is outside of our PID namespace
	theirs, err := unix.Getsid(parent)
	ours, _ := unix.Getsid(0)
	if parent == 0 || err != nil || theirs != ours {
		return false
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	if unix.Kill(0, unix.SIGSTOP) != nil {
		return false
	}
	<-continued // kill(2) may return before all of our threads have stopped
	return true
}
