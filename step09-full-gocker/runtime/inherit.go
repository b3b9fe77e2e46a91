package runtime

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// closeOnExec lets a child inherit what it is given, and no other file that gocker's caller had left
// open. Such a one may well be a way out of the container, as CVE-2024-21626 was in runc.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, file := range open {
		fd, err := strconv.Atoi(file.Name())
		if err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
