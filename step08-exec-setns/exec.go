package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// statesDir has a directory for every container that runs, with its state.
const statesDir = "/run/gocker/containers"

// A state is what other gockers have to know of a container.
type state struct {
	ID         string
	PID        int    // of its process 1, on the host
	StartTime  string // of that process, in clock ticks since the host's boot
	Image      string
	Command    []string
	Env        []string // as exec gives it to its commands too
	WorkingDir string
	Cgroups    []string // its directories
	Created    time.Time
}

// write puts the state in dir. Who reads it, reads all of it or nothing.
func (s state) write(dir string) error {
	content, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	partial := filepath.Join(dir, "partial")
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, filepath.Join(dir, "state.json"))
}

// findContainer returns the state of the one container whose ID begins with prefix.
func findContainer(prefix string) (s state, err error) {
	entries, err := os.ReadDir(statesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	var found []string
	for _, entry := range entries {
		if prefix != "" && strings.HasPrefix(entry.Name(), prefix) {
			found = append(found, entry.Name())
		}
	}
	switch len(found) {
	case 0:
		return s, fmt.Errorf("no container has an ID that begins with %q", prefix)
	case 1:
	default:
		return s, fmt.Errorf("several containers have an ID that begins with %q: %s", prefix, strings.Join(found, ", "))
	}
	content, err := os.ReadFile(filepath.Join(statesDir, found[0], "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("container %s has not started yet, or has ended", found[0])
	}
	return s, cmp.Or(err, json.Unmarshal(content, &s))
}

// startTime returns when the process pid began to be, in clock ticks since boot:
// field 22 of /proc/PID/stat, proc(5). PIDs are used again; the two together are not.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// Field 2 is the name in parentheses, in which there may be anything.
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	return fields[22-3], nil
}

// execute runs the command argv in the container whose ID begins with prefix, and
// returns a status as run does.
func execute(prefix string, argv []string) (status int, err error) {
	c, err := findContainer(prefix)
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)

	// A pidfd stands for one process, also when its PID is another one's: pidfd_open(2).
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil {
		return 0, fmt.Errorf("exec: container %s has ended: %w", c.ID, err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	if now, err := startTime(c.PID); err != nil || now != c.StartTime {
		return 0, fmt.Errorf("exec: container %s has ended", c.ID)
	}
	started, initEnd, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("pipe: %w", err)
	}
	defer started.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"enter",
		strconv.Itoa(len(c.Cgroups)), filepath.Join(containersDir, c.ID), c.WorkingDir}, argv...)...)
	cmd.Env = c.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{initEnd, pidfd} // fds 3 and 4 in enter
	for _, dir := range c.Cgroups {             // and from 5 on
		procs, err := os.OpenFile(dir+"/cgroup.procs", os.O_WRONLY, 0)
		if err != nil {
			return 0, fmt.Errorf("exec: container %s has ended: %w", c.ID, err)
		}
		defer procs.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, procs)
	}

	// Who enters a PID namespace stays outside, and the children are born inside:
	// setns(2), pid_namespaces(7). This is true of the one thread that calls; our
	// goroutine is locked to it for good, so that the runtime starts neither another
	// goroutine nor another thread from there.
	if err := unix.Setns(fd, unix.CLONE_NEWPID); err != nil {
		return 0, fmt.Errorf("exec: container %s: setns: %w", c.ID, err)
	}
	err = cmd.Start()
	initEnd.Close()
	if err != nil {
		return 0, fmt.Errorf("exec: clone: %w", err)
	}
	return wait(cmd, started, signals)
}

// enter is the child's half of execute: it goes where the container is and becomes the
// command. args are the number of cgroups, the container's directory, the working
// directory and the command with its arguments. It returns only if it fails.
func enter(args []string) (int, error) {
	if err := checkCaller("enter", "exec"); err != nil {
		return 0, err
	}
	dir, workdir, argv := args[1], args[2], args[3:]
	cgroups, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, err
	}
	signal.Notify(make(chan os.Signal, 1), forwarded...)
	for _, step := range []func() error{
		closeOnExec,
		// As Pdeathsig does in run.go. That would not do here: it takes a parent in
		// another PID namespace, whom nobody can see from inside, for dead.
		func() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) },
		// A thread that shares its root directory with others, as Go's threads do, may
		// not enter a mount namespace: setns(2).
		func() error { return unix.Unshare(unix.CLONE_FS) },
		func() error { return unix.Setns(4, namespaces) }, // all at once: Linux 5.8
		func() error { return enterRootfs(dir + "/merged") },
		func() error { return enterWorkdir(workdir) },
	} {
		if err := step(); err != nil {
			return 0, fmt.Errorf("exec: %w", err)
		}
	}
	var join []lastWrite
	for fd := range cgroups {
		join = append(join, lastWrite{5 + fd, "0"})
	}
	return execve(argv, os.Environ(), join)
}
