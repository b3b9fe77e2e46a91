package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The two halves of gocker talk through a pair of sockets: socketpair(2).
//
//	parent                        child
//	a struct, as JSON      -->
//	                       <--    answer: it is ready
//	a byte: begin          -->
//	                       <--    end of file: execve(2) has closed the socket
//
// What goes wrong in the child is an answer, too. An end of file that comes before the
// child was ready is the end of the child.

// socketFD is the child's end, and all that it is given but stdin, stdout and stderr.
const socketFD = 3

// An answer is what a child says to its parent.
type answer struct {
	Ready  bool
	Error  string      // if it is not ready
	Status int         // for gocker to exit with then
	Signal unix.Signal // the one that has ended the start, or 0
}

// The exit statuses that are gocker's own rather than the command's. They are
// docker's, which took 126 and 127 from the shell (POSIX XCU 2.8.2).
const (
	statusFailed        = 125 // gocker itself failed
	statusNotExecutable = 126 // the command was found but could not be executed
	statusNotFound      = 127 // the command was not found
)

// words are strings of any bytes, as arguments may be. A string in JSON has to be UTF-8: so
// words are sent as Go would quote them, with \xff for a byte that is not.
type words []string

func (w words) MarshalJSON() ([]byte, error) {
	quoted := make([]string, len(w))
	for i, word := range w {
		quote := strconv.Quote(word)
		quoted[i] = quote[1 : len(quote)-1]
	}
	return json.Marshal(quoted)
}

func (w *words) UnmarshalJSON(content []byte) error {
	var quoted []string
	if err := json.Unmarshal(content, &quoted); err != nil {
		return err
	}
	for _, word := range quoted {
		word, err := strconv.Unquote(`"` + word + `"`)
		if err != nil {
			return err
		}
		*w = append(*w, word)
	}
	return nil
}

// A failure is an error that has an exit status of its own.
type failure struct {
	error
	status int
}

func (f failure) Unwrap() error { return f.error }

// send sends value to the child. If that is dead, awaitReady will say so.
func (c *child) send(value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = c.socket.Write(content) // without a line end, which would be taken for "begin"
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// awaitReady waits until the child is ready to execute the command, or ctx is done, as
// signals are after one that ends the start.
func (c *child) awaitReady(ctx context.Context) error {
	select {
	case a, open := <-c.answers:
		if !open {
			return c.died()
		}
		return a.err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin lets the child execute the command, and waits until that has happened.
func (c *child) begin() error {
	c.socket.Write([]byte{0}) // fails if the child is dead, and wait will say how
	if a, open := <-c.answers; open {
		return a.err()
	}
	return nil
}

// err returns a as an error, or nil if the child is ready.
func (a answer) err() error {
	if a.Ready {
		return nil
	}
	if a.Signal != 0 {
		return interruption(a.Signal)
	}
	return failure{errors.New(a.Error), a.Status}
}

// died returns the error for a child that has ended without a word.
func (c *child) died() error {
	if err := c.reap(0); err != nil {
		return err
	}
	if c.status.Signaled() {
		return fmt.Errorf("gocker's child was ended by signal %d before it was the command", c.status.Signal())
	}
	return fmt.Errorf("gocker's child ended with status %d before it was the command", c.status.ExitStatus())
}

// A parent is the gocker that has started this one. Until execve(2) something must refer to
// it: Go closes a file that nothing refers to any more.
type parent struct {
	socket  *os.File
	decoder *json.Decoder
}

// findParent makes sure that this process, which carries out command, was started by a gocker
// that carries out caller, and not by a person: its socket was made by its parent, unix(7).
// In a new PID namespace, where the parent is not seen, both PIDs are 0.
func findParent(command, caller string) (*parent, error) {
	peer, err := unix.GetsockoptUcred(socketFD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	family, _ := unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_DOMAIN)
	// A socket of another family has no such peer, and its PID is 0, too.
	if err != nil || family != unix.AF_UNIX || int(peer.Pid) != os.Getppid() {
		return nil, fmt.Errorf("%s: only gocker %s calls this", command, caller)
	}
	unix.CloseOnExec(socketFD)
	socket := os.NewFile(socketFD, "socket")
	return &parent{socket, json.NewDecoder(socket)}, nil
}

// receive waits for what the parent sends, and puts it into the struct at value.
func (p *parent) receive(value any) error {
	if err := p.decoder.Decode(value); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// ready tells the parent that this process is ready, and waits until it may begin. It waits
// in a raw system call, of which the Go runtime takes no notice. With others it starts a
// thread that does the rest of the work meanwhile; but the command may be allowed one only.
func (p *parent) ready() error {
	p.say(answer{Ready: true})
	var begin byte
	n, _, errno := unix.RawSyscall(unix.SYS_READ, socketFD, uintptr(unsafe.Pointer(&begin)), 1)
	for errno == unix.EINTR {
		n, _, errno = unix.RawSyscall(unix.SYS_READ, socketFD, uintptr(unsafe.Pointer(&begin)), 1)
	}
	if n != 1 || errno != 0 {
		return errors.New("gocker has ended")
	}
	return nil
}

// fail tells the parent why this process ends, and ends it.
func (p *parent) fail(err error) {
	a := answer{Error: err.Error(), Status: statusFailed}
	var failed failure
	if errors.As(err, &failed) {
		a.Status = failed.status
	}
	if signal, ok := err.(interruption); ok {
		a.Signal = unix.Signal(signal)
	}
	p.say(a)
	os.Exit(statusFailed)
}

// say sends a to the parent. If that is dead, nobody is left to be told.
func (p *parent) say(a answer) {
	message, _ := json.Marshal(a) // of a string and numbers, which never fails
	unix.RawSyscall6(unix.SYS_SENDTO, socketFD, uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)), unix.MSG_NOSIGNAL, 0, 0)
}
