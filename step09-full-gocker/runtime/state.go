package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is the directory of the container's state.
func (c *Container) dir() string { return filepath.Join(stateRoot, c.ID) }

// publish lets others find c, when all of it is written.
func (c *Container) publish() (err error) {
	if c.StartTime, _, err = stat(c.PID); err != nil {
		return err
	}
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	partial := filepath.Join(c.dir(), "partial")
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, filepath.Join(c.dir(), "state.json"))
}

// Load returns the container id. The error is os.ErrNotExist if there is none.
func Load(id string) (*Container, error) {
	content, err := os.ReadFile(filepath.Join(stateRoot, id, "state.json"))
	if err != nil {
		return nil, err
	}
	c := &Container{}
	return c, json.Unmarshal(content, c)
}

// Created tells whether the process waits for Start.
func (c *Container) Created() bool {
	_, err := os.Stat(c.startSocket())
	return err == nil && c.Running()
}

// Running tells whether the container's process is there, be it paused or not yet started.
func (c *Container) Running() bool {
	began, state, err := stat(c.PID)
	return err == nil && began == c.StartTime && !isOver(state)
}

// Paused tells whether the container's processes are frozen.
func (c *Container) Paused() bool {
	cg, err := c.cgroup()
	return err == nil && c.Running() && cg.frozen()
}

// pidfd returns a descriptor that stands for the container's process, also when its PID is another
// one's: pidfd_open(2). That it is the container's, we know from the time at which it began to be.
func (c *Container) pidfd() (int, error) {
	pidfd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil {
		return 0, ErrNotRunning
	}
	if !c.Running() {
		unix.Close(pidfd)
		return 0, ErrNotRunning
	}
	return pidfd, nil
}

// ErrNotRunning is the error of what needs a process in a container that has ended.
var ErrNotRunning = fmt.Errorf("container is not running: %w", unix.ESRCH)

// Began returns when the process pid began to be, in clock ticks since boot. One that has ended, and only
// has not been waited for, is none any more.
func Began(pid int) (string, error) {
	began, state, err := stat(pid)
	if err == nil && isOver(state) {
		return "", os.ErrNotExist
	}
	return began, err
}

// isOver tells whether state is that of a process that has ended: proc(5), /proc/PID/stat.
func isOver(state string) bool { return state == "Z" || state == "X" }

// stat returns when the process pid began to be, in clock ticks since boot, and its state, a letter:
// proc(5), /proc/PID/stat. PIDs are used again; PID and time together are not.
func stat(pid int) (began, state string, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The third field and the 22nd; the second is in parentheses and may have spaces in it.
	fields := strings.Fields(string(content[strings.LastIndex(string(content), ")")+1:]))
	return fields[19], fields[0], nil
}
