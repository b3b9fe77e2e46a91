package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An order says what a container is. Create sends it to init.
type order struct {
	ID     string
	Bundle string
	Spec   *specs.Spec
	Root   bool // the root file system comes as rootFD
	Detach bool
}

// Create makes a container as the OCI runtime specification says (runtime.md, Lifecycle, steps 2 to
// 6), and a process in it that waits for Start to become the command. If it fails, nothing is left.
func Create(ctx context.Context, o Options) (*Container, error) {
	if err := check(o.Spec); err != nil {
		return nil, err
	}
	c := &Container{ID: o.ID, Bundle: o.Bundle, Spec: o.Spec}
	if err := os.MkdirAll(stateRoot, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("container %s: %w", o.ID, err)
	}
	if err := c.create(ctx, o); err != nil {
		if c.child != nil {
			c.child.kill()
		}
		return nil, errors.Join(err, c.Delete())
	}
	return c, nil
}

// create is Create in the directory of c's state.
func (c *Container) create(ctx context.Context, o Options) error {
	cg, err := c.cgroup()
	if err != nil {
		return err
	}
	if err := cg.create(o.Spec.Linux.Resources); err != nil {
		return err
	}
	start, err := c.listen()
	if err != nil {
		return err
	}
	defer start.Close()
	more := []*os.File{start}
	if o.Root != nil {
		more = append(more, o.Root)
	}

	// Clone. The child is this same program, started again as "gocker init".
	attr := &syscall.SysProcAttr{Cloneflags: newNamespaces(o.Spec)}
	if dir := cg.dirFD(); dir != nil { // where it is born: CLONE_INTO_CGROUP, Linux 5.7, clone(2)
		attr.UseCgroupFD = true
		attr.CgroupFD = int(dir.Fd())
	}
	stdio := o.Stdio
	if o.Spec.Process.Terminal {
		stdio = [3]*os.File{}
	}
	c.child, err = inPIDNamespace(o.Spec, func() (*child, error) { return startChild("init", stdio, more, attr) })
	if err != nil {
		return err
	}
	c.PID = c.child.pid
	if err := c.publish(); err != nil {
		return err
	}

	// Talk, and connect while init furnishes.
	if err := c.child.send(order{c.ID, c.Bundle, o.Spec, o.Root != nil, o.Detach}); err != nil {
		return err
	}
	if o.Connect != nil {
		if err := o.Connect(c.PID); err != nil {
			// Perhaps because init has ended, and its namespaces with it. Then that is the reason.
			soon, cancel := context.WithTimeout(ctx, time.Second/10)
			defer cancel()
			if e := c.child.awaitReady(soon); e != nil && !errors.Is(e, context.DeadlineExceeded) {
				return e
			}
			return err
		}
	}
	if err := c.child.awaitReady(ctx); err != nil {
		return err
	}
	c.console = c.child.console
	return cg.setPids() // now that init starts no threads any more: in cgroup v2 they count
}

// check refuses what cannot be done.
func check(s *specs.Spec) error {
	switch {
	case s.Linux == nil || s.Process == nil || s.Root == nil:
		return errors.New("config.json: linux, process and root must be there")
	case len(s.Process.Args) == 0:
		return errors.New("config.json: no command")
	}
	for _, ns := range s.Linux.Namespaces {
		if _, ok := namespaceFlags[ns.Type]; !ok {
			return fmt.Errorf("config.json: namespaces of type %s are not supported", ns.Type)
		}
	}
	return checkSysctls(s)
}

// startSocket is where init waits for Start.
func (c *Container) startSocket() string { return filepath.Join(c.dir(), "start.sock") }

// listen makes the socket start.sock.
func (c *Container) listen() (*os.File, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.startSocket(), Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return nil, err
	}
	return file, unix.SetNonblock(int(file.Fd()), false) // Go's runtime had it otherwise
}

// Start lets the container's process become its command, and waits until that has happened. An error
// of execve(2) is a Failure. Whoever may read the state may call it, once.
func (c *Container) Start() error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.startSocket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("container %s cannot be started: %w", c.ID, err)
	}
	defer conn.Close()
	if err := os.Remove(c.startSocket()); err != nil {
		return err
	}
	conn.Write([]byte{0}) // fails if init is dead; then the end of file comes at once, too
	var a answer
	if json.NewDecoder(conn).Decode(&a) != nil {
		return nil // end of file: execve(2) has closed it
	}
	return a.failure()
}

// Wait waits until the container's process has ended, and returns how: wait4(2). Only the process
// that has created it can.
func (c *Container) Wait() (unix.WaitStatus, error) {
	if err := c.child.wait(); err != nil {
		return 0, err
	}
	return c.child.status, nil
}

// Console is the other end of the container's terminal, or nil: pty(7).
func (c *Container) Console() *os.File { return c.console }

// Delete kills what there still is of the container, and removes its cgroup and its state.
func (c *Container) Delete() error {
	cg, err := c.cgroup()
	if err != nil {
		return err
	}
	if err := cg.remove(10 * time.Second); err != nil {
		return err
	}
	return os.RemoveAll(c.dir())
}

// Signal sends sig to the container's first process.
func (c *Container) Signal(sig unix.Signal) error {
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	return unix.PidfdSendSignal(pidfd, sig, nil, 0)
}

// cgroup is the container's.
func (c *Container) cgroup() (*cgroup, error) { return newCgroup(c.Spec.Linux.CgroupsPath) }
