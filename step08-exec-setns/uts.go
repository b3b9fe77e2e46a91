package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// setHostname gives this process's UTS namespace the host name name, of at most
// 64 bytes: sethostname(2).
func setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("sethostname %s: %w", name, err)
	}
	return nil
}
