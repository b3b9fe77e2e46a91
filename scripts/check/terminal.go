package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// terminalName is the name under which this program, in the PATH of the scripts, runs a
// command on a terminal:
//
//	terminal DIALOGUE COMMAND ARG...
//
// The terminal is a new one, and the controlling terminal of COMMAND, which leads a session
// of its own. It does not echo. The file DIALOGUE has the lines
//
//	see TEXT    wait until there is TEXT in what COMMAND prints after what was seen before
//	type TEXT   type it, and the return key; or only a key such as ^C
//
// All that COMMAND has printed comes out at the end. The exit status is COMMAND's, or 99
// if the dialogue went another way.
const terminalName = "terminal"

// terminal carries out one such command line, without its name, and returns the status to
// exit with.
func terminal(args []string) int {
	limit, err := timeout()
	if err != nil {
		return terminalFailed(err)
	}
	dialogue, err := os.ReadFile(args[0])
	if err != nil {
		return terminalFailed(err)
	}
	keyboard, tty, err := openTerminal()
	if err != nil {
		return terminalFailed(err)
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return terminalFailed(err)
	}
	tty.Close()
	s := &screen{printed: make(chan []byte), deadline: time.After(limit / 2)}
	go s.read(keyboard)
	err = talk(string(dialogue), keyboard, s)
	if err == nil {
		err = s.seeEnd()
	}
	if err != nil {
		cmd.Process.Kill()
	}
	cmd.Wait()
	os.Stdout.Write(s.text)
	if err != nil {
		return terminalFailed(err)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func terminalFailed(err error) int {
	fmt.Fprintln(os.Stderr, "terminal:", err)
	return 99
}

// talk does what the lines of dialogue say.
func talk(dialogue string, keyboard *os.File, s *screen) error {
	for line := range strings.Lines(dialogue) {
		verb, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		var err error
		switch verb {
		case "see":
			err = s.see(text)
		case "type":
			if len(text) == 2 && text[0] == '^' {
				text = string(text[1] & 0x1f) // what the control key leaves of it
			} else {
				text += "\n"
			}
			_, err = keyboard.WriteString(text)
		default:
			err = errors.New("it is neither see nor type")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	return nil
}

// openTerminal makes a terminal and returns both of its ends: pty(7).
func openTerminal() (keyboard, tty *os.File, err error) {
	keyboard, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("number of the terminal: %w", err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	modes, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, nil, fmt.Errorf("modes of the terminal: %w", err)
	}
	modes.Lflag &^= unix.ECHO
	modes.Oflag &^= unix.OPOST // no \r before \n
	return keyboard, tty, unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, modes)
}

// A screen is what has come out of a terminal.
type screen struct {
	text     []byte
	seen     int         // how much of text was seen
	printed  chan []byte // what follows text; closed when nobody has the terminal any more
	deadline <-chan time.Time
}

// read hands on what comes out of the terminal that keyboard belongs to.
func (s *screen) read(keyboard *os.File) {
	defer close(s.printed)
	for {
		buffer := make([]byte, 4096)
		n, err := keyboard.Read(buffer)
		if err != nil { // EIO, when the last process has closed it
			return
		}
		s.printed <- buffer[:n]
	}
}

var errTime = errors.New("in vain, and the time is over")

// see waits until text is on the screen, below what was seen before.
func (s *screen) see(text string) error {
	for {
		if i := bytes.Index(s.text[s.seen:], []byte(text)); i >= 0 {
			s.seen += i + len(text)
			return nil
		}
		select {
		case more, open := <-s.printed:
			if !open {
				return errors.New("in vain, and the command has ended")
			}
			s.text = append(s.text, more...)
		case <-s.deadline:
			return errTime
		}
	}
}

// seeEnd waits until nobody has the terminal any more.
func (s *screen) seeEnd() error {
	for {
		select {
		case more, open := <-s.printed:
			if !open {
				return nil
			}
			s.text = append(s.text, more...)
		case <-s.deadline:
			return fmt.Errorf("wait for the end of the command: %w", errTime)
		}
	}
}

// writeTerminal puts terminal into the directory bin.
func writeTerminal(bin string) error {
	return os.Symlink(fmt.Sprintf("/proc/%d/exe", os.Getpid()), filepath.Join(bin, terminalName))
}
