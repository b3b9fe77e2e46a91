package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A spec says what a container is. run sends it to init.
type spec struct {
	ID     string
	Argv   words  // the command and its arguments
	Env    words  // the command's environment: NAME=VALUE
	Rootfs string // the path of its root directory
}

// initContainer is the child's half of run: it is alone in its new namespaces,
// furnishes them and becomes the command. It returns only if it is not run that has
// started it; whatever else goes wrong it tells run, which prints it.
func initContainer() error {
	caller, err := findParent("init", "run")
	if err != nil {
		return err
	}
	var c spec
	if err := caller.receive(&c); err != nil {
		caller.fail(err)
	}
	if err := furnish(c); err != nil {
		caller.fail(err)
	}
	env := addHome(c.Env)
	files, err := findCommand(c.Argv[0], getenv(env, "PATH"))
	if err != nil {
		caller.fail(err)
	}
	if err := caller.ready(); err != nil {
		caller.fail(err)
	}
	caller.fail(execve(files, c.Argv, env))
	return nil
}

// furnish makes the new namespaces what c says.
func furnish(c spec) error {
	if err := dieWithParent(); err != nil {
		return err
	}
	if err := setHostname(c.ID); err != nil {
		return err
	}
	if err := mountPrivate(); err != nil {
		return err
	}
	if err := enterRootfs(c.Rootfs); err != nil {
		return err
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := mountSys(); err != nil {
		return err
	}
	return mountDev()
}

// dieWithParent lets the kernel kill this process when gocker ends, whatever ends it, and
// the end of process 1 is the end of all others in its PID namespace. It holds for the
// command too, unless that changes its user: prctl(2). If gocker has ended before, no signal
// comes; but then nobody says that the command may begin.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}
