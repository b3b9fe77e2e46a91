package runtime

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An entry says how a command enters a container. Exec sends it to enter.
type entry struct {
	Spec    *specs.Spec // the container's
	Process *specs.Process
	Detach  bool
}

// ExecOptions say what to execute in a container.
type ExecOptions struct {
	Process *specs.Process
	Stdio   [3]*os.File // unused with Process.Terminal
	Detach  bool        // the process outlives this one
}

// A Process is one that has entered a container.
type Process struct {
	PID   int // on the host
	child *child
}

// Exec executes a command in the container, and returns when it has become it. The kernel kills it
// with the thread that calls this, unless it is detached.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*Process, error) {
	pidfd, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	container := os.NewFile(uintptr(pidfd), "pidfd")
	defer container.Close()
	child, err := onOwnThread(func() (*child, error) {
		if hasOwnPIDs(c.Spec) {
			if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
				return nil, fmt.Errorf("setns: %w", err)
			}
		}
		stdio := o.Stdio
		if o.Process.Terminal {
			stdio = [3]*os.File{}
		}
		return startChild("enter", stdio, []*os.File{container}, &syscall.SysProcAttr{})
	})
	if err != nil {
		return nil, err
	}
	if err := c.letIn(ctx, child, o); err != nil {
		child.kill()
		if !c.Running() {
			return nil, ErrNotRunning // it has just ended, and its processes were killed
		}
		return nil, err
	}
	return &Process{child.pid, child}, nil
}

// letIn talks to the child that enters until it is the command.
func (c *Container) letIn(ctx context.Context, child *child, o ExecOptions) error {
	if err := child.send(entry{c.Spec, o.Process, o.Detach}); err != nil {
		return err
	}
	if err := child.awaitReady(ctx); err != nil {
		return err
	}
	cg, err := c.cgroup()
	if err != nil {
		return err
	}
	// In cgroup v2 it is moved now that it starts no thread any more: the container may be allowed
	// fewer than a Go program has.
	if err := cg.move(child.pid); err != nil {
		return err
	}
	return child.begin()
}

// hasOwnPIDs tells whether the container has another PID namespace than the host.
func hasOwnPIDs(s *specs.Spec) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return true
		}
	}
	return false
}

// Wait waits until the process has ended, and returns how: wait4(2).
func (p *Process) Wait() (unix.WaitStatus, error) {
	if err := p.child.wait(); err != nil {
		return 0, err
	}
	return p.child.status, nil
}

// Signal sends sig to the process.
func (p *Process) Signal(sig unix.Signal) error { return p.child.signal(sig) }

// Console is the other end of the process's terminal, or nil: pty(7).
func (p *Process) Console() *os.File { return p.child.console }

// Enter is the child's half of Exec: it goes where the container is and becomes the command. It
// returns only if it is not Exec that has started it.
func Enter() error {
	caller, err := findParent("enter")
	if err != nil {
		return err
	}
	var e entry
	if err := caller.receive(&e); err != nil {
		caller.fail(err)
	}
	console, err := enter(e)
	if err != nil {
		caller.fail(err)
	}
	caller.fail(become(caller, e.Spec, e.Process, console))
	return nil
}

// enter goes where the container is, whose process 1 is that of pidfdFD.
func enter(e entry) (console *os.File, err error) {
	unix.CloseOnExec(pidfdFD)
	if !e.Detach {
		if err := dieWithParent(); err != nil {
			return nil, err
		}
	}
	if _, err := unix.Setsid(); err != nil {
		return nil, fmt.Errorf("setsid: %w", err)
	}
	cg, err := newCgroup(e.Spec.Linux.CgroupsPath)
	if err != nil {
		return nil, err
	}
	if err := cg.join(); err != nil {
		return nil, err
	}
	// A thread that shares its root directory with others, as Go's threads do, may not enter a
	// mount namespace: setns(2).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	// All at once: Linux 5.8. We were born in the PID namespace.
	var namespaces uintptr
	for _, ns := range e.Spec.Linux.Namespaces {
		namespaces |= namespaceFlags[ns.Type]
	}
	if err := unix.Setns(pidfdFD, int(namespaces&^unix.CLONE_NEWPID)); err != nil {
		return nil, fmt.Errorf("setns: %w", err)
	}
	if e.Process.Terminal {
		return openConsole(e.Process.ConsoleSize, false)
	}
	return nil, nil
}
