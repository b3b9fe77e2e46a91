package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
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
	if err := checkForwarding(); err != nil {
		return 0, err
	}
	hierarchies, err := findHierarchies()
	if err != nil {
		return 0, err
	}
	id := newID()
	dir, err := claimDir(signals, containersDir, id, func(orphan string) error {
		return removeContainer(orphan, hierarchies, time.Second)
	})
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

		Hierarchies: hierarchies,
		Pids:        l.pids,
	}, l)
	if e := removeContainer(dir.Name(), hierarchies, 5*time.Second); e != nil {
		return status, errors.Join(err, e)
	}
	return status, err
}

// removeContainer takes down all that there is of the container whose directory is dir. patience is
// how long it waits for processes to die: those of a command that has changed its user have
// outlived their gocker, see dieWithParent. If something cannot be taken down, the directory
// stays: the next gocker finds it, and tries again.
func removeContainer(dir string, hierarchies []hierarchy, patience time.Duration) error {
	id := filepath.Base(dir)
	if err := disconnect(id); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for _, h := range hierarchies {
		if err := removeCgroup(h.dir(id), deadline); err != nil {
			return err
		}
	}
	return removeTree(dir)
}

// runContainer runs the container c, for which there is nothing yet but its directory.
func runContainer(signals *signals, c spec, l limits) (int, error) {
	cgroup, err := createCgroup(c.ID, c.Hierarchies, l)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(cgroup)

	// Clone. The child is this same program, started again as "gocker init".
	// In cgroup v2 it is born where it belongs: CLONE_INTO_CGROUP, Linux 5.7.
	child, err := startChild("init", &syscall.SysProcAttr{Cloneflags: namespaces, UseCgroupFD: cgroup >= 0, CgroupFD: cgroup})
	if err != nil {
		return 0, err
	}
	defer child.kill() // does nothing to a child that has ended

	// Talk. The child hears what the container is, and when it is ready that it may begin.
	if err := child.send(c); err != nil {
		return 0, err
	}

	// Connect, while init furnishes the rest.
	nw, err := connect(signals, c.ID, child.pid)
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
	if err := child.begin(); err != nil {
		return 0, err
	}

	// Wait.
	return child.wait(signals)
}
