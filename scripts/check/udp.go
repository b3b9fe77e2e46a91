package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// udpName is the name under which this program, in the PATH of the scripts, speaks UDP, which
// busybox's nc does not:
//
//	udp listen ADDRESS:PORT       answers everything that comes with where it came from
//	udp ask ADDRESS:PORT TEXT     sends TEXT, and prints what is answered within a second
const udpName = "udp"

// udp carries out one such command line, without its name, and returns the status to exit with.
func udp(args []string) int {
	var err error
	switch {
	case len(args) == 2 && args[0] == "listen":
		err = udpListen(args[1])
	case len(args) == 3 && args[0] == "ask":
		err = udpAsk(args[1], args[2])
	default:
		err = errors.New("it is neither listen nor ask")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "udp:", err)
		return 1
	}
	return 0
}

func udpListen(address string) error {
	socket, err := net.ListenPacket("udp4", address)
	if err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	for {
		n, from, err := socket.ReadFrom(buffer)
		if err != nil {
			return err
		}
		host, _, err := net.SplitHostPort(from.String())
		if err != nil {
			return err
		}
		if _, err := socket.WriteTo(fmt.Appendf(nil, "%s from %s", buffer[:n], host), from); err != nil {
			return err
		}
	}
}

func udpAsk(address, text string) error {
	socket, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	if _, err := socket.Write([]byte(text)); err != nil {
		return err
	}
	if err := socket.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	n, err := socket.Read(buffer)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", buffer[:n])
	return nil
}

// writeUDP puts udp into the directory bin.
func writeUDP(bin string) error {
	return os.Symlink(fmt.Sprintf("/proc/%d/exe", os.Getpid()), filepath.Join(bin, udpName))
}
