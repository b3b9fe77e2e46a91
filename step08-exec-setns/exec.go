package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// exec runs the command argv in the container whose ID begins with prefix, waits for it to end
// and returns a status as run does.
func exec(prefix string, argv []string) (int, error) {
	signals := catchSignals()
	if err := closeOnExec(); err != nil {
		return 0, err
	}
	s, err := findState(prefix)
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	// A pidfd stands for one process, also when its PID is another one's: pidfd_open(2). That it
	// is the container's, we know from the time at which it began to be.
	pidfd, err := unix.PidfdOpen(s.PID, 0)
	began, e := startTime(s.PID)
	if err != nil || e != nil || began != s.StartTime {
		return 0, fmt.Errorf("exec: container %s has ended", s.ID)
	}
	defer unix.Close(pidfd)
	s.Argv = argv
	s.Env = addEnv(baseEnv(s.ID), s.Env) // with the TERM of our caller, not of run's
	status, err := s.start(signals, pidfd)
	var failed failure
	if err == nil || errors.As(err, new(interruption)) || errors.As(err, &failed) && failed.status != statusFailed {
		return status, err
	}
	// Perhaps the container is just ending, and its processes are killed. A pidfd can be "read"
	// when its process has ended; give that a second.
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000); n > 0 {
		return 0, fmt.Errorf("exec: container %s has ended", s.ID)
	}
	return 0, err
}

// start runs the command s.Argv in the container, whose process 1 is that of pidfd.
func (s state) start(signals *signals, pidfd int) (int, error) {
	// Clone. Who enters a PID namespace stays outside, and the children are born inside: setns(2),
	// pid_namespaces(7). This is true of the one thread that calls; our goroutine is locked to it
	// for good, so that the runtime starts neither another goroutine nor another thread from there.
	if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
		return 0, fmt.Errorf("exec: setns: %w", err)
	}
	child, err := startChild("enter", &syscall.SysProcAttr{})
	if err != nil {
		return 0, err
	}
	defer child.kill() // does nothing to a child that has ended

	// Talk. The first byte carries the pidfd: unix(7), SCM_RIGHTS.
	if err := unix.Sendmsg(int(child.socket.Fd()), []byte{0}, unix.UnixRights(pidfd), nil, 0); err != nil {
		return 0, fmt.Errorf("sendmsg: %w", err)
	}
	if err := child.send(s); err != nil {
		return 0, err
	}
	if err := child.awaitReady(signals); err != nil {
		return 0, err
	}
	// In cgroup v2 it is moved now that it starts no thread any more: the container may be allowed
	// fewer than a Go program has.
	for _, h := range s.Hierarchies {
		if h.isV2() {
			if err := os.WriteFile(h.dir(s.ID)+"/cgroup.procs", []byte(fmt.Sprint(child.pid)), 0); err != nil {
				return 0, err
			}
		}
	}
	if err := child.begin(); err != nil {
		return 0, err
	}

	// Wait.
	return child.wait(signals)
}

// enter is the child's half of exec: it goes where the container is and becomes the command. It
// returns only if it is not exec that has started it.
func enter() error {
	caller, err := findParent("enter", "exec")
	if err != nil {
		return err
	}
	pidfd, err := receiveDescriptor()
	if err != nil {
		caller.fail(err)
	}
	var s state
	if err := caller.receive(&s); err != nil {
		caller.fail(err)
	}
	if err := s.join(pidfd); err != nil {
		caller.fail(fmt.Errorf("exec: %w", err))
	}
	env := addHome(s.Env)
	files, err := findCommand(s.Argv[0], getenv(env, "PATH"))
	if err != nil {
		caller.fail(err)
	}
	if err := caller.ready(); err != nil {
		caller.fail(err)
	}
	caller.fail(execve(files, s.Argv, env))
	return nil
}

// join goes where the container is, whose process 1 is that of pidfd. From here to execve(2) its
// processes see this one, and by /proc/PID/exe our program's file; as root with all capabilities
// they may write to it: CVE-2019-5736. Step 09 keeps them from both.
func (s state) join(pidfd int) error {
	if err := dieWithParent(); err != nil {
		return err
	}
	if err := joinCgroups(s.ID, s.Hierarchies); err != nil {
		return err
	}
	// A thread that shares its root directory with others, as Go's threads do, may not enter a
	// mount namespace: setns(2).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// All at once: Linux 5.8. We were born in the PID namespace.
	if err := unix.Setns(pidfd, namespaces&^unix.CLONE_NEWPID|unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	if err := changeRoot(s.Dir + "/merged"); err != nil {
		return err
	}
	return enterWorkdir(s.Cwd)
}

// receiveDescriptor waits for the open file that comes with the first byte, and returns it.
func receiveDescriptor() (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socketFD, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("recvmsg: %w", err)
	}
	_, descriptor, _, err := unix.ParseOneSocketControlMessage(control[:n])
	if err != nil || len(descriptor) != 4 {
		return 0, errors.New("recvmsg: no descriptor came")
	}
	return int(binary.NativeEndian.Uint32(descriptor)), nil
}
