package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// Every container that runs has a monitor: a gocker that has started it, waits for its end, and cleans
// up. In the foreground that is "gocker run" itself. Otherwise it is "gocker monitor", in a session of
// its own, so that the container outlives the terminal that it was started on. There is no daemon.

// monitorLink is a symbolic link to "PID STARTTIME", the process that watches over the container id.
func monitorLink(id string) string { return filepath.Join(runDir, "monitors", id) }

// claimMonitor makes this process the monitor of c, until releaseMonitor.
func (c *container) claimMonitor() error {
	began, err := runtime.Began(os.Getpid())
	if err != nil {
		return err
	}
	link := monitorLink(c.ID)
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	os.Remove(link) // of one that has died; whoever may be here has found that
	return os.Symlink(fmt.Sprintf("%d %s", os.Getpid(), began), link)
}

// releaseMonitor ends that. After a reboot there is no link.
func (c *container) releaseMonitor() error {
	if err := os.Remove(monitorLink(c.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// monitored tells whether the monitor of c lives.
func (c *container) monitored() bool {
	target, err := os.Readlink(monitorLink(c.ID))
	if err != nil {
		return false
	}
	pid, began, _ := strings.Cut(target, " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	now, err := runtime.Began(n)
	return err == nil && now == began
}

// startMonitor starts a monitor for c, and waits until the container runs. Its error is the monitor's.
func startMonitor(c *container) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		write.Close()
		return err
	}
	defer null.Close()
	_, _, err = syscall.StartProcess("/proc/self/exe", []string{"gocker", "monitor", c.ID}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), write.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	write.Close()
	if err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	var r report
	if err := json.NewDecoder(read).Decode(&r); err != nil {
		return errors.New("the container's monitor has died")
	}
	if r.Error != "" {
		return failure{errors.New(r.Error), r.Status}
	}
	return nil
}

// A report is what a monitor says to the gocker that has started it: that the container runs, or why not.
type report struct {
	Error  string
	Status int
}

// monitor is what startMonitor starts: it runs the container id from its start to its end.
func monitor(id string) error {
	to := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	c, err := loadContainer(id)
	if err == nil {
		_, err = c.run(streams{}, catchSignals(), func() {
			json.NewEncoder(to).Encode(report{})
			to.Close()
		})
	}
	if err != nil {
		r := report{err.Error(), statusOf(err)}
		json.NewEncoder(to).Encode(r) // fails if it has run: then nobody is there to be told
	}
	return err
}

// reconcile finishes the death of a container whose monitor has died without doing so, and takes note
// of it in c. The container's process dies with its monitor. If it was to be removed then, the error is
// noContainer.
func (c *container) reconcile() error {
	if !c.unfinished() || c.monitored() {
		return nil
	}
	lock, err := c.lock()
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has just been removed
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	now, err := loadContainer(c.ID) // perhaps its monitor has ended as it should, or another gocker was here
	if err != nil {
		return err
	}
	*c = *now
	if !c.unfinished() || c.monitored() {
		return nil
	}
	if err := c.finish(128 + int(unix.SIGKILL)); err != nil || !c.HostConfig.AutoRemove {
		return err
	}
	err = removeLocked(c, true)
	lock.Close()
	if err == nil {
		err = releaseImage(c.ImageID)
	}
	if err != nil {
		return err
	}
	return noContainer(c.ID)
}

// unfinished tells whether there is something of a run that has not been taken down.
func (c *container) unfinished() bool {
	_, err := os.Readlink(monitorLink(c.ID))
	return err == nil || c.Started.After(c.Finished)
}

// finish takes down what belongs to a run of c that is over, and records its exit status. It can be
// called again where it was interrupted.
func (c *container) finish(status int) error {
	if r, err := runtime.Load(c.ID); err == nil {
		if stats, err := r.Stats(); err == nil {
			c.OOM = stats.OOMKills > 0
		}
		if err := r.Delete(); err != nil {
			return err
		}
	}
	if err := disconnect(c); err != nil {
		return err
	}
	if c.Started.After(c.Finished) {
		c.Finished = time.Now().UTC()
		c.ExitCode = status
	}
	if err := c.save(); err != nil {
		return err
	}
	return c.releaseMonitor()
}
