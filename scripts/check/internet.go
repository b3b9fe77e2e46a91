package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// From step 07 on the sandbox has an internet: a network namespace behind its own,
// with an HTTP server that tells who asks.
//
//	the sandbox's "host"                    the "internet"
//	uplink 198.51.100.1/24  --- veth ---  eth0 198.51.100.2/24
//	default via 198.51.100.2              lo   203.0.113.80/32, the server
//
// The addresses are from RFC 5737, for documentation. The internet has no route back
// to anything but 198.51.100.0/24, as the real one has none to private addresses, and
// says at once that what it does not know cannot be reached.
const (
	internetEnv   = "GOCKER_CHECK_INTERNET"
	serverAddress = "203.0.113.80"
)

// startInternet starts the internet as a child of the sandbox's first process, with
// which it ends.
func startInternet() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), internetEnv+"=1")
	cmd.Stderr = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := ip(
		fmt.Sprintf("link add uplink type veth peer name eth0 netns %d", cmd.Process.Pid),
		"address add 198.51.100.1/24 dev uplink",
		"link set uplink up",
	); err != nil {
		return err
	}
	in.Close() // eth0 is there
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("internet: %q, %v", line, err)
	}
	return ip("route add default via 198.51.100.2")
}

// internet is what runs in the internet's namespace.
func internet() error {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	if err := ip(
		"link set lo up",
		"address add 198.51.100.2/24 dev eth0",
		"link set eth0 up",
		"address add "+serverAddress+"/32 dev lo",
		"route add prohibit default",
	); err != nil {
		return err
	}
	// A host drops what is not for it; a router answers, and this one every time. Else
	// whoever looks up a name would wait for half a minute.
	for file, value := range map[string]string{"ip_forward": "1", "icmp_ratelimit": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp4", serverAddress+":80")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "you are %s\n", host)
	}))
}

// ip runs ip(8) with each of commands.
func ip(commands ...string) error {
	for _, command := range commands {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}
