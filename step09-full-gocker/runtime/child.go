package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A child is this program again, started to become a container's process.
type child struct {
	pid     int
	pidfd   int // stays this process even when its PID is used again: pidfd_open(2)
	socket  *os.File
	answers chan answer // what comes through the socket; closed at its end of file
	console *os.File    // the other end of its terminal, which came with an answer
	ended   bool
	status  unix.WaitStatus // how it has ended: wait4(2)
}

// startChild starts this program again as "gocker COMMAND", with what attr says: clone(2). Its files
// are stdio, the conversation's socket and then more, all others are closed.
func startChild(command string, stdio [3]*os.File, more []*os.File, attr *syscall.SysProcAttr) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[1])
	if err := closeOnExec(); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	program, err := sealedProgram()
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer program.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer null.Close()
	var files []uintptr
	for _, file := range stdio {
		if file == nil {
			file = null
		}
		files = append(files, file.Fd())
	}
	files = append(files, uintptr(pair[1]))
	for _, file := range more {
		files = append(files, file.Fd())
	}
	c := &child{socket: os.NewFile(uintptr(pair[0]), "socket"), answers: make(chan answer)}
	attr.PidFD = &c.pidfd

	// All signals are blocked in the child until it is the command. So none ends it half-way
	// there. A thread has its own mask, and a child its parent's: signal(7).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask, err := blockSignals()
	if err != nil {
		c.socket.Close()
		return nil, fmt.Errorf("sigprocmask: %w", err)
	}
	c.pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), []string{"gocker", command}, &syscall.ProcAttr{
		Env:   []string{}, // an environment is meant for the command alone
		Files: files,
		Sys:   attr,
	})
	restoreSignals(mask)
	runtime.KeepAlive(more)
	if err != nil {
		c.socket.Close()
		return nil, fmt.Errorf("clone: %w", err)
	}
	go c.listen()
	return c, nil
}

// listen passes on what the child says, until the end of file. An answer is short: each comes whole,
// and a descriptor with it where the child has one to give: unix(7), SCM_RIGHTS.
func (c *child) listen() {
	defer close(c.answers)
	message, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	for {
		n, controls, _, _, err := unix.Recvmsg(int(c.socket.Fd()), message, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		var a answer
		if err != nil || n == 0 || json.Unmarshal(message[:n], &a) != nil {
			return
		}
		if fd, err := parseDescriptor(control[:controls]); err == nil {
			unix.SetNonblock(fd, true) // so that Go can give up reading from it
			c.console = os.NewFile(uintptr(fd), "console")
		}
		c.answers <- a
	}
}

// parseDescriptor returns the one descriptor that came in a control message.
func parseDescriptor(control []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return 0, errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, errors.New("no descriptor came")
	}
	return fds[0], nil
}

// signal sends s to the child: pidfd_send_signal(2).
func (c *child) signal(s unix.Signal) error { return unix.PidfdSendSignal(c.pidfd, s, nil, 0) }

// kill ends the child if it has not ended, and forgets it.
func (c *child) kill() {
	c.signal(unix.SIGKILL) // fails only if it has ended
	if !c.ended {
		c.wait()
	}
	c.socket.Close()
	unix.Close(c.pidfd)
}

// wait waits until the child has ended.
func (c *child) wait() error {
	_, err := unix.Wait4(c.pid, &c.status, 0, nil)
	for err == unix.EINTR {
		_, err = unix.Wait4(c.pid, &c.status, 0, nil)
	}
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	c.ended = true
	return nil
}
