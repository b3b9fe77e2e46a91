package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openConsole makes this process's stdin, stdout and stderr a terminal of the container's own devpts,
// and that the one which controls its session; it returns the other end: pty(7), ioctl_tty(2). For
// a container's first process the terminal is also /dev/console.
func openConsole(size *specs.Box, first bool) (*os.File, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	console := os.NewFile(uintptr(master), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	n, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("number of the terminal: %w", err)
	}
	// By the other end, not by its name, behind which may be something else: Linux 4.13.
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("open /dev/pts/%d: %w", n, errno)
	}
	defer unix.Close(int(slave))
	if size != nil && size.Width > 0 {
		winsize := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, winsize); err != nil {
			return nil, fmt.Errorf("size of the terminal: %w", err)
		}
	}
	for fd := range 3 {
		if err := unix.Dup3(int(slave), fd, 0); err != nil {
			return nil, fmt.Errorf("dup3: %w", err)
		}
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return nil, fmt.Errorf("controlling terminal: %w", err)
	}
	if !first {
		return console, nil
	}
	file, err := os.OpenFile("/dev/console", os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return console, mount(fmt.Sprintf("/dev/pts/%d", n), fmt.Sprintf("/proc/self/fd/%d", file.Fd()), "", unix.MS_BIND, "")
}
