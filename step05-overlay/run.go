package main

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// namespaces are those that the child has for itself: namespaces(7).
const namespaces = syscall.CLONE_NEWUTS | // host name and domain name: uts_namespaces(7)
	syscall.CLONE_NEWPID | // process IDs, from 1 on: pid_namespaces(7)
	syscall.CLONE_NEWNS | // mounts: mount_namespaces(7)
	syscall.CLONE_NEWIPC // System V IPC and POSIX message queues: ipc_namespaces(7)

// run runs an image in a new container, waits for it to end and returns the status for
// gocker to exit with: the command's own, or 128+n if signal n ended it. args, if there
// are any, take the place of the image's Cmd.
func run(reference string, args []string) (int, error) {
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
	c := container{id: newID(), img: img, argv: argv}
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
	dir, undo, err := claimDir(signals, containersDir, c.id, removeTree)
	if err != nil {
		return 0, err
	}
	c.undo = append(c.undo, undo)

	// Clone. The child is this same program, started again as "gocker init".
	child, err := startChild("init", &syscall.SysProcAttr{Cloneflags: namespaces})
	if err != nil {
		return 0, err
	}
	defer child.kill() // does nothing to a child that has ended

	// Talk. The child hears what the container is, and when it is ready that it may begin.
	if err := child.send(spec{
		ID:     c.id,
		Argv:   c.argv,
		Env:    addEnv(baseEnv(c.id), c.img.Config.Env),
		Dir:    dir,
		Layers: layerDirs(c.img.RootFS.DiffIDs),
		Cwd:    c.img.Config.WorkingDir,
	}); err != nil {
		return 0, err
	}
	if err := child.awaitReady(signals); err != nil {
		return 0, err
	}
	if err := child.begin(); err != nil {
		return 0, err
	}

	// Wait.
	return child.wait(signals)
}
