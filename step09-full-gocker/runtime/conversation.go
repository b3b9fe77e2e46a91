package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The two halves of the runtime talk through a pair of sockets: socketpair(2). For a container's
// first process:
//
//	Create                        init
//	an order, as JSON      -->
//	                       <--    answer: it is ready, perhaps with the terminal
//	Start, in whatever process
//	a connection to start.sock
//	a byte: begin          -->
//	                       <--    end of file: execve(2) has closed the connection
//
// For one that enters, begin and the end of file go the way of the first two. What goes wrong in the
// child is an answer, too. An end of file that comes before the child was ready is its end.

// The child's descriptors, beside stdin, stdout and stderr.
const (
	socketFD = 3
	startFD  = 4 // init's: the listening socket start.sock
	rootFD   = 5 // init's, if the order says so: the root file system, a detached mount
	pidfdFD  = 4 // enter's: the container's process 1
)

// An answer is what a child says to its parent.
type answer struct {
	Ready  bool
	Error  string // if it is not ready
	Status int    // that goes with the error
}

// send sends value to the child. If that is dead, awaitReady will say so.
func (c *child) send(value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = c.socket.Write(content) // and nothing after it that could be taken for "begin"
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// awaitReady waits until the child is ready to execute the command, or ctx is done.
func (c *child) awaitReady(ctx context.Context) error {
	select {
	case a, open := <-c.answers:
		if !open {
			return c.died()
		}
		return a.failure()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin lets a child that enters execute the command, and waits until that has happened.
func (c *child) begin() error {
	c.socket.Write([]byte{0}) // fails if the child is dead, and wait will say how
	if a, open := <-c.answers; open {
		return a.failure()
	}
	return nil
}

// failure returns a as an error, or nil if the child is ready.
func (a answer) failure() error {
	if a.Ready {
		return nil
	}
	return Failure{errors.New(a.Error), a.Status}
}

// died returns the error for a child that has ended without a word.
func (c *child) died() error {
	if err := c.wait(); err != nil {
		return err
	}
	if c.status.Signaled() {
		return fmt.Errorf("gocker's child was ended by signal %d before it was the command", c.status.Signal())
	}
	return fmt.Errorf("gocker's child ended with status %d before it was the command", c.status.ExitStatus())
}

// A parent is the gocker that has started this one.
type parent struct {
	socket   *os.File // must stay referred to: Go closes a file that nothing refers to any more
	decoder  *json.Decoder
	listener int // where begin comes from by a connection, or -1
	talk     int // the descriptor that answers go to
}

// findParent makes sure that this process is the child of a gocker: whoever made the socket,
// unix(7), is its parent. From inside a new PID namespace both have the PID 0.
func findParent(command string) (*parent, error) {
	peer, err := unix.GetsockoptUcred(socketFD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	family, _ := unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_DOMAIN) // others have no peer, which is 0, too
	if err != nil || family != unix.AF_UNIX || int(peer.Pid) != os.Getppid() {
		return nil, fmt.Errorf("%s: only gocker itself calls this", command)
	}
	unix.CloseOnExec(socketFD)
	socket := os.NewFile(socketFD, "socket")
	return &parent{socket, json.NewDecoder(socket), -1, socketFD}, nil
}

// receive waits for what the parent sends, and puts it into the struct at value.
func (p *parent) receive(value any) error {
	if err := p.decoder.Decode(value); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// ready tells the parent that this process is ready, with console unless that is nil, and waits until
// it may begin. What follows are raw system calls, of which the Go runtime takes no notice: it must
// start no thread any more, since the command may be allowed one only.
func (p *parent) ready(console *os.File) error {
	var rights []byte
	if console != nil {
		rights = unix.UnixRights(int(console.Fd()))
	}
	message, _ := json.Marshal(answer{Ready: true}) // never fails
	if err := unix.Sendmsg(socketFD, message, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	if console != nil {
		unix.Close(int(console.Fd()))
	}
	if p.listener >= 0 {
		conn, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(p.listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		for errno == unix.EINTR {
			conn, _, errno = unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(p.listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		}
		if errno != 0 {
			return fmt.Errorf("accept: %w", errno)
		}
		p.talk = int(conn)
	}
	var begin byte
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(p.talk), uintptr(unsafe.Pointer(&begin)), 1)
	for errno == unix.EINTR {
		n, _, errno = unix.RawSyscall(unix.SYS_READ, uintptr(p.talk), uintptr(unsafe.Pointer(&begin)), 1)
	}
	if n != 1 || errno != 0 {
		return errors.New("gocker has ended")
	}
	return nil
}

// fail tells the parent why this process ends, and ends it.
func (p *parent) fail(err error) {
	a := answer{Error: err.Error(), Status: StatusFailed}
	var failed Failure
	if errors.As(err, &failed) {
		a.Status = failed.Status
	}
	message, _ := json.Marshal(a) // never fails
	// If the parent is dead, nobody is left to be told.
	unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.talk), uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)), unix.MSG_NOSIGNAL, 0, 0)
	os.Exit(StatusFailed)
}
