package main

import (
	"os"
	"syscall"
)

// namespaces are those that the child has for itself: namespaces(7).
const namespaces = syscall.CLONE_NEWUTS // host name and domain name: uts_namespaces(7)

// run runs the command argv in a new container, waits for it to end and returns
// the status for gocker to exit with: the command's own, or 128+n if signal n
// ended it.
func run(argv []string) (int, error) {
	// Prepare.
	signals := catchSignals()
	c := spec{ID: newID(), Argv: argv, Env: os.Environ()}

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
