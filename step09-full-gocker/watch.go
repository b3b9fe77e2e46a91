package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A watch waits for the end of a container's run, without looking again and again: inotify(7) tells
// when the container's record is replaced, a pidfd when its process has ended.
type watch struct {
	c         *container // as it was at the beginning; as it is, when it is over
	exit      *os.File   // where its exit status will be found if it is removed: leaveStatus
	inotify   int
	cancelled int // an eventfd(2), which can be read when a context is done
	pidfd     int // of the process; -1 when that has ended
	orphaned  bool
}

// How long the record of a container whose process has ended may take before we look whether
// anybody is there to write it.
const recordPatience = 100 // ms

// watchContainer begins to watch c, for more events of its directory if they are given: inotify(7).
// If c is not there any more, the error is noContainer.
func watchContainer(c *container, events uint32) (*watch, error) {
	w := &watch{c: c, inotify: -1, cancelled: -1, pidfd: -1}
	err := w.open(events)
	if errors.Is(err, os.ErrNotExist) {
		err = noContainer(c.Name)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *watch) open(events uint32) (err error) {
	dir := w.c.dir()
	if w.exit, err = os.OpenFile(filepath.Join(dir, "exit"), os.O_RDONLY|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return fmt.Errorf("inotify_init1: %w", err)
	}
	events |= unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF
	if _, err := unix.InotifyAddWatch(w.inotify, dir, events); err != nil {
		return fmt.Errorf("inotify_add_watch %s: %w", dir, err)
	}
	if w.cancelled, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	pid := w.c.pid()
	if pid == 0 {
		return nil
	}
	w.pidfd, err = unix.PidfdOpen(pid, 0)
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	if err == nil && w.c.pid() != pid { // it has ended meanwhile, and the PID may be another's
		unix.Close(w.pidfd)
		w.pidfd = -1
	}
	return nil
}

// close gives back what the watch has of the kernel.
func (w *watch) close() {
	w.exit.Close() // also if it is nil
	for _, fd := range []int{w.inotify, w.cancelled, w.pidfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	w.inotify, w.cancelled, w.pidfd = -1, -1, -1
}

// over tells whether the run of the container is over and recorded. If it is, the container is as
// it is recorded now, or has the exit status that was left when it was removed.
func (w *watch) over() (bool, error) {
	now, err := loadContainer(w.c.ID)
	if errors.Is(err, os.ErrNotExist) {
		content := make([]byte, 8)
		n, _ := w.exit.ReadAt(content, 0) // EOF, as it is shorter
		if w.c.ExitCode, err = strconv.Atoi(string(content[:n])); err != nil {
			return false, noContainer(w.c.Name) // removed by one that had not seen it end
		}
		w.c.Finished = time.Now()
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if w.orphaned {
		if err := now.reconcile(); err != nil {
			return false, err
		}
	}
	if !hasEnded(now) && now.Started.Equal(w.c.Started) {
		return false, nil
	}
	*w.c = *now
	return true, nil
}

// hasEnded tells whether the record says that the container does not run.
func hasEnded(c *container) bool { return !c.Finished.Before(c.Started) }

// wait returns when there may be something new, or when ctx is done, with its error.
func (w *watch) wait(ctx context.Context) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		unix.Write(w.cancelled, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		close(woken)
	})
	timeout := -1
	if w.pidfd < 0 {
		timeout = recordPatience
	}
	fds := []unix.PollFd{
		{Fd: int32(w.inotify), Events: unix.POLLIN},
		{Fd: int32(w.cancelled), Events: unix.POLLIN},
		{Fd: int32(w.pidfd), Events: unix.POLLIN}, // poll(2) takes no notice of -1
	}
	ready, err := unix.Poll(fds, timeout)
	if !stop() {
		<-woken // w.cancelled must be open until then
		return ctx.Err()
	}
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if fds[0].Revents != 0 {
		events := make([]byte, 4096)
		for err == nil { // until there are none: EAGAIN
			_, err = unix.Read(w.inotify, events)
		}
	}
	if fds[2].Revents != 0 {
		unix.Close(w.pidfd)
		w.pidfd = -1
	}
	w.orphaned = ready == 0
	return nil
}

// awaitEnd waits until c has ended, that is recorded, and c is what the record says then. It
// returns at once if c does not run. If ctx is done before, it returns the error of that; if c is
// not there any more when it begins, noContainer.
func awaitEnd(ctx context.Context, c *container) error {
	w, err := watchContainer(c, 0)
	if err != nil {
		return err
	}
	defer w.close()
	for {
		if over, err := w.over(); over || err != nil {
			return err
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// leaveStatus leaves the exit status of c to those who wait for it, as it is about to be removed.
// They have the file open and can read it also when it is not there any more.
func leaveStatus(c *container) error {
	file, err := os.OpenFile(filepath.Join(c.dir(), "exit"), os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nobody waits
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.Itoa(c.ExitCode))
	return errors.Join(err, file.Close())
}
