package main

import (
	"errors"
	"fmt"
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
	id := newID()
	dir, err := claimDir(signals, containersDir, id, removeTree)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	status, err := runContainer(signals, spec{
		ID:     id,
		Argv:   argv,
		Env:    addEnv(baseEnv(id), img.Config.Env),
		Dir:    dir.Name(),
		Layers: layerDirs(img.RootFS.DiffIDs),
		Cwd:    img.Config.WorkingDir,
	})
	if e := removeTree(dir.Name()); e != nil {
		return status, errors.Join(err, e)
	}
	return status, err
}

// runContainer runs the container c, for which there is nothing yet but its directory.
func runContainer(signals *signals, c spec) (int, error) {
	// Clone. The child is this same program, started again as "gocker init".
	child, err := startChild("init", &syscall.SysProcAttr{Cloneflags: namespaces})
	if err != nil {
		return 0, err
	}
	defer child.kill() // does nothing to a child that has ended

	// Talk. The child hears what the container is, and when it is ready that it may begin.
	if err := child.send(c); err != nil {
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
