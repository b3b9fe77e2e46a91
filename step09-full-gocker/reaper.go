package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// initPath is where --init puts gocker in the container, as docker its own init.
const initPath = "/sbin/docker-init"

// reaper is the container's process 1 with --init: it starts the command, hands signals on to it, and
// waits for orphans, which without anybody who does would stay as zombies. It returns the command's status.
func reaper(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	come := make(chan os.Signal, 64)
	signal.Notify(come)
	command := exec.Command(args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "gocker:", err)
		return 127
	}
	go func() {
		for s := range come {
			if s != unix.SIGCHLD && s != unix.SIGURG {
				command.Process.Signal(s)
			}
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 1
		}
		if pid == command.Process.Pid {
			return exitStatus(status)
		}
	}
}
