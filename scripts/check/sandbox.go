package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A script runs in namespaces of its own. What it takes for the host has its own
// mounts, in which / is read-only and what must be written to is a tmpfs, its own
// cgroups, its own network with nothing but lo, its own process IDs and its own host
// name; so nothing that it does or leaves can meet the real host, and everything that
// it leaves can be seen. This program runs itself there, with the script's name in
// sandboxEnv.
const (
	sandboxEnv = "GOCKER_CHECK_SCRIPT"
	binEnv     = "GOCKER_CHECK_BIN"  // the directory with the program to check
	stepEnv    = "GOCKER_CHECK_STEP" // the number of the step that it is
	timeoutEnv = "GOCKER_CHECK_TIMEOUT"
)

// timeout is how long a script may take, on a slow and busy machine. An emulated one
// needs more, and says so in timeoutEnv.
func timeout() (time.Duration, error) {
	if value := os.Getenv(timeoutEnv); value != "" {
		return time.ParseDuration(value)
	}
	return time.Minute, nil
}

// A result is what came of a script.
type result string

const (
	pass   result = "ok"
	fail   result = "FAIL"
	broken result = "BROKEN" // not the script's or the program's fault
)

// runScript runs one script against bin/gocker, which is step number, and returns
// what came of it and everything that was printed.
func runScript(script, bin string, number int) (result, string) {
	cgroups, removeCgroups, err := makeCgroups()
	if err != nil {
		return broken, fmt.Sprintf("cgroups: %v\n", err)
	}
	res, log := runSandbox(script, bin, number, cgroups)
	if err := removeCgroups(); err != nil {
		return broken, fmt.Sprintf("%s\ncgroups: %v\n", log, err)
	}
	return res, log
}

// runSandbox is runScript with cgroups for the sandbox.
func runSandbox(script, bin string, number int, cgroups []string) (result, string) {
	limit, err := timeout()
	if err != nil {
		return broken, fmt.Sprintf("%s: %v\n", timeoutEnv, err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), sandboxEnv+"="+script, binEnv+"="+bin, stepEnv+"="+strconv.Itoa(number), cgroupsEnv+"="+strings.Join(cgroups, ":"))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL,
		// Without a terminal, also where the tests have one: what a script does is the
		// same on both.
		Setsid: true,
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil: // the end of the sandbox's process 1 was the end of everything in it
		return fail, fmt.Sprintf("%s\nno end after %v\n", log.String(), limit)
	case err == nil:
		return pass, log.String()
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return fail, log.String()
	}
	return broken, fmt.Sprintf("%s\n%v\n", log.String(), err)
}

// actAsPart does the work of the sandbox, of the internet behind it, or of a terminal in
// it, and does not return if that is what this process was started for.
func actAsPart() {
	if filepath.Base(os.Args[0]) == terminalName {
		os.Exit(terminal(os.Args[1:]))
	}
	if filepath.Base(os.Args[0]) == udpName {
		os.Exit(udp(os.Args[1:]))
	}
	if os.Getenv(internetEnv) != "" {
		fmt.Fprintln(os.Stderr, "internet:", internet())
		os.Exit(1)
	}
	if script := os.Getenv(sandboxEnv); script != "" {
		os.Exit(insideSandbox(script))
	}
}

// insideSandbox furnishes the namespaces, runs script and returns the status to
// exit with: 0 if it passed, 1 if it failed, 2 if it could not be run.
func insideSandbox(script string) int {
	if os.Getpid() == 1 {
		return reap()
	}
	limit, err := timeout()
	var number int
	if err == nil {
		number, err = strconv.Atoi(os.Getenv(stepEnv))
	}
	if err == nil {
		err = furnish(number)
	}
	if err != nil {
		fmt.Println("sandbox:", err)
		return 2
	}
	before := hostState()
	if !runTestscript(script, number) {
		return 1
	}
	if left := leftovers(before, limit/3); left != "" {
		fmt.Printf("%s\n%s", leavesBehind, left)
		return 1
	}
	return 0
}

const leavesBehind = "the script passes, but leaves behind:"

// reap does what process 1 of every host does, and waits for orphans. The rest of the
// sandbox's work it leaves to a child, with whose end it ends.
func reap() int {
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Println("sandbox:", err)
		return 2
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR:
		case err != nil:
			fmt.Println("sandbox: wait:", err)
			return 2
		case pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}

// checkDir is where the sandbox has what it needs itself, and scripts work.
const checkDir = "/var/lib/check"

// furnish turns the copies of the host's namespaces into a host for the script,
// with the program to check, step number, in checkDir.
func furnish(number int) error {
	program, err := os.ReadFile(filepath.Join(os.Getenv(binEnv), "gocker")) // which may be in /tmp
	if err != nil {
		return err
	}
	type m struct {
		source, target, fstype string
		flags                  uintptr
	}
	for _, m := range []m{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"none", "/", "", unix.MS_REC | unix.MS_SHARED}, // as systemd has it
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/var/lib", "tmpfs", 0},
		{"tmpfs", "/run", "tmpfs", 0},
		{"tmpfs", "/tmp", "tmpfs", 0},
		{"tmpfs", "/dev/shm", "tmpfs", 0},
		{"none", "/", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	if err := mountCgroups(filepath.SplitList(os.Getenv(cgroupsEnv))); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("host")); err != nil {
		return fmt.Errorf("sethostname: %w", err)
	}
	if err := ip("link set lo up"); err != nil {
		return err
	}
	if number >= 7 {
		if err := startInternet(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(checkDir+"/bin", 0o755); err != nil {
		return err
	}
	functions, err := testdata.ReadFile("testdata/container.sh")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(checkDir+"/bin/gocker", program, 0o755),
		os.WriteFile(checkDir+"/bin/container.sh", functions, 0o644),
		writeTerminal(checkDir+"/bin"),
		writeUDP(checkDir+"/bin"))
}

// hostState lists what a container could leave on its host, a line each.
func hostState() []string {
	var state []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		state = append(state, "mount "+strings.TrimSpace(line))
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		if cmdline, err := os.ReadFile(file); err == nil {
			state = append(state, fmt.Sprintf("process %s %q", filepath.Base(filepath.Dir(file)), cmdline))
		}
	}
	interfaces, _ := filepath.Glob("/proc/sys/net/ipv4/conf/*")
	for _, dir := range interfaces {
		name := filepath.Base(dir)
		// The bridge may stay. So may a port that is down: it goes with its namespace, which a
		// connection that nobody answers any more keeps for minutes, tcp(7), tcp_orphan_retries.
		link, err := net.InterfaceByName(name)
		isDown := err == nil && link.Flags&net.FlagUp == 0 && strings.HasPrefix(name, "gk-")
		if name != "gocker0" && !isDown {
			state = append(state, "interface "+name)
		}
	}
	tables, _ := exec.Command("nft", "list", "tables").Output()
	for line := range strings.Lines(string(tables)) {
		if line != "table ip gocker\n" { // and so may the one table
			state = append(state, strings.TrimSpace(line))
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv(cgroupsEnv)) {
		cgroups, _ := filepath.Glob(filepath.Dir(dir) + "/gocker/*/cgroup.procs")
		for _, file := range cgroups {
			state = append(state, "cgroup "+filepath.Dir(file))
		}
	}
	// Images may stay, all of them complete, and nothing else.
	filepath.WalkDir("/var/lib/gocker", func(path string, entry fs.DirEntry, err error) error {
		switch depth := strings.Count(path, "/"); {
		case err != nil:
			return nil
		case depth == 5 && slices.Contains([]string{"containers", "names", "volumes"}, filepath.Base(filepath.Dir(path))), strings.Contains(entry.Name(), "partial"):
			state = append(state, "file "+path)
			return fs.SkipDir
		case depth >= 6 && entry.IsDir():
			return fs.SkipDir
		}
		return nil
	})
	running, _ := filepath.Glob("/run/gocker/[cmpr]*/*") // containers, monitors, ports, runtime
	for _, dir := range running {
		state = append(state, "file "+dir)
	}
	return state
}

// leftovers returns what is there that was not there before, a line each. It gives
// processes that were killed, and network namespaces that nobody is in any more, the
// time that a busy kernel takes to remove them: up to patience.
func leftovers(before []string, patience time.Duration) string {
	var left strings.Builder
	for start := time.Now(); time.Since(start) < patience; {
		left.Reset()
		for _, line := range hostState() {
			if !slices.Contains(before, line) {
				left.WriteString(line + "\n")
			}
		}
		if left.Len() == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return left.String()
}
