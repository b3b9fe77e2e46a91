package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// newID returns a random container ID of 12 hexadecimal digits, as short as those that
// docker shows. It is the container's host name, too.
func newID() string {
	id := make([]byte, 6)
	rand.Read(id) // never fails, and never returns less
	return hex.EncodeToString(id)
}

// setHostname gives this process's UTS namespace the host name name, of at most
// 64 bytes: sethostname(2).
func setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("sethostname %s: %w", name, err)
	}
	return nil
}
