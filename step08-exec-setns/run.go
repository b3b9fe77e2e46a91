package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// run runs an image in a new container, waits for it to end and returns the
// status for gocker to exit with: the command's own, or 128+n if signal n ended
// it. args, if there are any, take the place of the image's Cmd.
func run(reference string, args []string, max limits) (status int, err error) {
	id := newID()
	_, config, err := findImage(reference)
	if err != nil {
		return 0, err
	}
	if len(args) == 0 {
		args = config.Config.Cmd
	}
	argv := append(config.Config.Entrypoint, args...)
	if len(argv) == 0 {
		return 0, fmt.Errorf("run: %s names no command; give one: gocker run IMAGE CMD", reference)
	}

	signals := make(chan os.Signal, 16) // from now on no signal ends gocker before it has cleaned up
	signal.Notify(signals, forwarded...)

	// Prepare. The container's files come from layers and go to a directory of its own.
	var layers []string
	for _, diffID := range config.RootFS.DiffIDs {
		layers = append(layers, layerDir(diffID))
	}
	dir, err := claimDir(containersDir, id, os.RemoveAll)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir.Name()), dir.Close()) }()
	stateDir, err := claimDir(statesDir, id, os.RemoveAll)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stateDir.Name()), stateDir.Close()) }()
	cg, err := makeCgroup(id, max)
	defer func() { err = errors.Join(err, cg.remove()) }()
	if err != nil {
		return 0, err
	}

	// The child is this same program, started again as "gocker init".
	// Its end of the pipe is closed by its execve(2) or its death.
	started, initEnd, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("pipe: %w", err)
	}
	defer started.Close()
	initReads, settings, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("pipe: %w", err)
	}
	defer settings.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"init", strings.Join(cg.v1, ":"), strconv.FormatInt(max.pids, 10),
		id, dir.Name(), strings.Join(layers, ":"), config.Config.WorkingDir}, argv...)...)
	cmd.Env = append(containerEnv(id), config.Config.Env...) // the last entry for a name wins
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{initEnd, cg.pids, initReads} // fds 3 to 5 in init
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: namespaces,
		Pdeathsig:  syscall.SIGKILL, // a gocker killed by kill -9 takes the command with it
		// CLONE_INTO_CGROUP: in a cgroup v2 the child is born, Linux 5.7, clone(2).
		UseCgroupFD: cg.v2 != nil,
		CgroupFD:    int(cg.v2.Fd()),
	}

	// Clone.
	err = cmd.Start()
	initEnd.Close()
	initReads.Close()
	if err != nil {
		return 0, fmt.Errorf("clone: %w", err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }() // nothing happens to a child that has ended

	// Connect. Init waits for the settings of its network.
	nw, lease, err := connect(id, cmd.Process.Pid)
	defer lease.Close()
	if err != nil {
		return 0, err
	}
	if err := json.NewEncoder(settings).Encode(nw); err != nil {
		return 0, fmt.Errorf("init: %w", err)
	}

	// Let it be known. Init writes a byte when the container is ready, and executes the
	// command when settings is closed; if it fails, there is no byte.
	if n, _ := started.Read(make([]byte, 1)); n == 1 {
		pid := cmd.Process.Pid
		s := state{ID: id, PID: pid, Image: reference, Command: argv, Env: cmd.Env, WorkingDir: config.Config.WorkingDir, Created: time.Now()}
		for _, dir := range cg.dirs {
			s.Cgroups = append(s.Cgroups, dir.Name())
		}
		if s.StartTime, err = startTime(pid); err != nil {
			return 0, err
		}
		if err := s.write(stateDir.Name()); err != nil {
			return 0, err
		}
	}
	settings.Close()
	return wait(cmd, started, signals)
}

// wait hands on signals to the child until it has ended, and returns its status.
// Those that come early stay in the channel until the command is there to take them,
// as the end of started tells; gocker's half of the child would not know what to do.
func wait(cmd *exec.Cmd, started io.Reader, signals <-chan os.Signal) (int, error) {
	io.Copy(io.Discard, started)
	go func() {
		for s := range signals {
			cmd.Process.Signal(s) // fails only if the command has ended just now
		}
	}()
	return exitStatus(cmd.Wait())
}

// namespaces are those that the child has for itself: namespaces(7).
const namespaces = syscall.CLONE_NEWUTS | // host name and domain name: uts_namespaces(7)
	syscall.CLONE_NEWPID | // process IDs, from 1 on: pid_namespaces(7)
	syscall.CLONE_NEWNS | // mounts: mount_namespaces(7)
	syscall.CLONE_NEWNET // interfaces, routes, firewall: network_namespaces(7)

// forwarded are the signals that gocker hands on to the command. SIGKILL and
// SIGSTOP cannot be caught, and ^Z (SIGTSTP) is left to do what it always does.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// newID returns a random container ID of 12 hexadecimal digits, as short as
// those that docker shows.
func newID() string {
	id := make([]byte, 6)
	rand.Read(id) // never fails, and never returns less
	return hex.EncodeToString(id)
}

// exitStatus turns what exec.Cmd.Wait returned into the status a shell would
// report. The error is not nil if waiting itself failed.
func exitStatus(err error) (int, error) {
	var ended *exec.ExitError
	if err == nil {
		return 0, nil
	} else if !errors.As(err, &ended) {
		return 0, fmt.Errorf("wait: %w", err)
	}
	if ws := ended.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ended.ExitCode(), nil
}
