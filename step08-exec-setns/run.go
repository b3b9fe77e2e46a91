package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// namespaces are those that the child has for itself: namespaces(7).
const namespaces = syscall.CLONE_NEWUTS | // host name and domain name: uts_namespaces(7)
	syscall.CLONE_NEWPID | // process IDs, from 1 on: pid_namespaces(7)
	syscall.CLONE_NEWNS | // mounts: mount_namespaces(7)
	syscall.CLONE_NEWIPC | // System V IPC and POSIX message queues: ipc_namespaces(7)
	syscall.CLONE_NEWNET // interfaces, routes, firewall: network_namespaces(7)

// run runs an image in a new container, waits for it to end and returns the status for
// gocker to exit with: the command's own, or 128+n if signal n ended it. args, if there
// are any, take the place of the image's Cmd.
func run(reference string, args []string, l limits) (int, error) {
	signals := catchSignals()
	img, err := findImage(signals, reference)
	if err != nil {
		return 0, err
	}
	argv, err := img.command(args)
	if err != nil {
		return 0, fmt.Errorf("run: %s %w", reference, err)
	}
	if err := closeOnExec(); err != nil {
		return 0, err
	}
	c := container{id: newID(), img: img, argv: argv, limits: l}
	status, err := c.run(signals)
	if e := c.remove(); e != nil {
		return status, errors.Join(err, e)
	}
	return status, err
}

// A container is an image that runs.
type container struct {
	id   string
	img  image
	argv []string
	limits
	undo []func() error // takes down what was set up, the last first
}

// remove takes down all that was set up for the container. If something cannot be taken down, what
// was set up before that stays, its directory at the last: the next gocker finds it, and tries again.
func (c *container) remove() error {
	for _, undo := range slices.Backward(c.undo) {
		if err := undo(); err != nil {
			return err
		}
	}
	return nil
}

// run is run without what comes before and after.
func (c *container) run(signals *signals) (int, error) {
	// Prepare. What the container writes goes to a directory of its own.
	if err := checkForwarding(); err != nil {
		return 0, err
	}
	hierarchies, err := hierarchies()
	if err != nil {
		return 0, err
	}
	removeOrphan := func(dir string) error {
		// A command that has changed its user has outlived its gocker: dieWithParent.
		left := cgroup{id: filepath.Base(dir), hierarchies: hierarchies}
		if err := left.remove(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if err := disconnect(left.id); err != nil {
			return err
		}
		if err := removeTree(stateDir(left.id)); err != nil {
			return err
		}
		return removeTree(dir)
	}
	dir, undo, err := claimDir(signals, containersDir, c.id, removeOrphan)
	if err != nil {
		return 0, err
	}
	c.undo = append(c.undo, undo)
	cgroup := &cgroup{id: c.id, hierarchies: hierarchies}
	c.undo = append(c.undo, func() error { return cgroup.remove(time.Now().Add(5 * time.Second)) })
	if err := cgroup.make(c.limits); err != nil {
		return 0, err
	}

	// Clone. The child is this same program, started again as "gocker init".
	attr := &syscall.SysProcAttr{Cloneflags: namespaces}
	if cgroup.v2 != nil { // where it is born: CLONE_INTO_CGROUP, Linux 5.7, clone(2)
		attr.UseCgroupFD = true
		attr.CgroupFD = int(cgroup.v2.Fd())
	}
	child, err := startChild("init", attr)
	if err != nil {
		return 0, err
	}
	defer child.kill() // does nothing to a child that has ended

	// Talk. The child hears what the container is, and when it is ready that it may begin.
	env := addEnv(baseEnv(c.id), c.img.Config.Env)
	if err := child.send(spec{
		ID:     c.id,
		Argv:   c.argv,
		Env:    env,
		Dir:    dir,
		Layers: layerDirs(c.img.RootFS.DiffIDs),
		Cwd:    c.img.Config.WorkingDir,

		Hierarchies: hierarchies,
	}); err != nil {
		return 0, err
	}

	// Connect, while init furnishes the rest.
	c.undo = append(c.undo, func() error { return disconnect(c.id) })
	nw, err := connect(signals, c.id, child.pid)
	if err != nil {
		// Perhaps because init has ended, and its namespace with it. Then that is the reason.
		soon, cancel := context.WithTimeout(signals, time.Second/10)
		defer cancel()
		if e := child.awaitReady(soon); !errors.Is(e, context.DeadlineExceeded) {
			return 0, e
		}
		return 0, err
	}
	if err := child.send(nw); err != nil {
		return 0, err
	}

	if err := child.awaitReady(signals); err != nil {
		return 0, err
	}
	// Now that init starts no threads any more: in cgroup v2 they count.
	if c.limits.pids > 0 {
		if err := cgroup.set("pids.max", c.limits.pids, "pids.max", c.limits.pids); err != nil {
			return 0, err
		}
	}
	// Let it be known: from here on other commands may enter.
	s := state{ID: c.id, PID: child.pid, Env: env, Root: dir + "/merged", Cwd: c.img.Config.WorkingDir, Hierarchies: hierarchies}
	c.undo = append(c.undo, func() error { return removeTree(stateDir(c.id)) })
	if err := s.publish(); err != nil {
		return 0, err
	}
	if err := child.begin(); err != nil {
		return 0, err
	}

	// Wait.
	return child.wait(signals)
}
