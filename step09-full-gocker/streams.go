package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/step09-full-gocker/runtime"
)

// streams are the user's ends of a command's stdin, stdout and stderr; nil for none.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// ourStreams are gocker's own.
func ourStreams(stdin bool) streams {
	s := streams{out: os.Stdout, err: os.Stderr}
	if stdin {
		s.in = os.Stdin
	}
	return s
}

// stdio are what lies between a command and its user: pipes, or a terminal, pty(7). The command never has
// the user's own files or terminal: it could read what is not for it, and type into the terminal.
type stdio struct {
	theirs  [3]*os.File // the command's ends; nil for nothing, or a terminal
	in      *os.File    // our ends
	out     [2]*os.File
	log     [2]io.WriteCloser // what comes out goes here, too
	user    streams
	console *os.File
	raw     *term.State // of the user's terminal, before it was ours
	copying sync.WaitGroup
}

// newStdio makes the pipes, unless there is a terminal to come.
func newStdio(user streams, tty, stdin bool, log [2]io.WriteCloser) (*stdio, error) {
	s := &stdio{user: user, log: log}
	if tty {
		return s, nil
	}
	for i := range 2 {
		read, write, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		s.out[i], s.theirs[i+1] = read, write
	}
	if stdin {
		read, write, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		s.theirs[0], s.in = read, write
	}
	return s, nil
}

// openStdio makes those of the container c, with its log. In the foreground a user who has nothing to
// say has said so: the end of file comes at once. In the background it never does.
func openStdio(c *container, user streams) (*stdio, error) {
	stdout, stderr, err := openLog(c)
	if err != nil {
		return nil, err
	}
	stdin := c.Config.OpenStdin && (user.in != nil || user.out == nil)
	return newStdio(user, c.Config.Tty, stdin, [2]io.WriteCloser{stdout, stderr})
}

// closeTheirs closes the command's ends here, when it has them.
func (s *stdio) closeTheirs() {
	for i, file := range s.theirs {
		if file != nil {
			file.Close()
			s.theirs[i] = nil
		}
	}
}

// start lets everything flow. console is the terminal, or nil.
func (s *stdio) start(console *os.File) {
	s.console = console
	in, out := s.in, s.out
	if console != nil {
		in, out[0] = console, console
		if s.user.in != nil && term.IsTerminal(int(s.user.in.Fd())) {
			s.raw, _ = term.MakeRaw(int(s.user.in.Fd())) // what it is in the container decides
			s.resize()
		}
	}
	if s.user.in != nil && in != nil {
		go func() {
			io.Copy(in, s.user.in) // until either end closes
			if console == nil {
				in.Close()
			}
		}()
	}
	users := [2]io.Writer{s.user.out, s.user.err}
	for i, file := range out {
		if file != nil {
			s.copying.Go(func() { pump(file, s.log[i], users[i]) })
		}
	}
}

// pump copies what comes from file to the log, and to the user until that fails. The next write of the
// command then fails, too, as it would have without us: SIGPIPE.
func pump(file *os.File, log, user io.Writer) {
	buffer := make([]byte, 64<<10) // what a pipe holds: pipe(7)
	for {
		n, err := file.Read(buffer)
		if n > 0 && log != nil {
			log.Write(buffer[:n]) // a full disk must not stop the command
		}
		if n > 0 && user != nil {
			if _, e := user.Write(buffer[:n]); e != nil {
				file.Close()
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && n > 0 {
			continue
		}
		if err != nil { // the end of file; of a terminal EIO
			return
		}
	}
}

// resize gives the command's terminal the size of the user's.
func (s *stdio) resize() {
	if s.console == nil || s.user.in == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(int(s.user.in.Fd()), unix.TIOCGWINSZ)
	if err == nil {
		unix.IoctlSetWinsize(int(s.console.Fd()), unix.TIOCSWINSZ, size)
	}
}

// close waits until all that the command has written is where it belongs, and gives the user's terminal
// back. Who still holds the other end of a pipe, and is not of the container, is not waited for.
func (s *stdio) close() {
	s.closeTheirs()
	for _, file := range []*os.File{s.out[0], s.out[1], s.console} {
		if file != nil {
			file.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
	s.copying.Wait()
	for _, file := range []*os.File{s.in, s.out[0], s.out[1], s.console} {
		if file != nil {
			file.Close()
		}
	}
	for _, log := range s.log {
		if log != nil {
			log.Close()
		}
	}
	if s.raw != nil {
		term.Restore(int(s.user.in.Fd()), s.raw)
		s.raw = nil
	}
}

// A process takes signals: the first of a container, or one that has entered.
type process interface {
	Signal(unix.Signal) error
}

var (
	_ process = (*runtime.Container)(nil)
	_ process = (*runtime.Process)(nil)
)

// handOn hands on a signal that gocker has got to p.
func (s *stdio) handOn(n unix.Signal, p process) {
	if n == unix.SIGWINCH && s.console != nil {
		s.resize()
		return
	}
	p.Signal(n) // fails only if it has ended
}
