package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initContainer is the child's half of run: it is alone in its new namespaces,
// furnishes them and becomes the command. args are the container's ID, its
// directory, its layers, its working directory and the command with its
// arguments. It returns only if it fails.
func initContainer(args []string) (int, error) {
	// fd 3 is the pipe that run made. If it is not there, run has not called us
	// and the namespaces that we would change are the host's.
	var fd3 unix.Stat_t
	if err := unix.Fstat(3, &fd3); err != nil || fd3.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, errors.New("init: only gocker run calls this")
	}
	cgroups, pids, args := filepath.SplitList(args[0]), args[1], args[2:]
	id, dir, layers, workdir, argv := args[0], args[1], strings.Split(args[2], ":"), args[3], args[4:]

	// Signals for the command that reach us as well, as ^C does, must not end us
	// before we are the command; run hands them on.
	signal.Notify(make(chan os.Signal, 1), forwarded...)
	for _, step := range []func() error{
		closeOnExec,
		func() error { return joinCgroups(cgroups) },
		func() error { return setHostname(id) },
		mountPrivate,
		func() error { return mountOverlay(dir, layers) },
		func() error { return enterRootfs(dir + "/merged") },
		mountProc,
		mountSys,
		mountDev,
		func() error { return enterWorkdir(workdir) },
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	var last []lastWrite
	if pids != "0" {
		last = append(last, lastWrite{4, pids})
	}
	return execve(argv, os.Environ(), last)
}

// enterWorkdir makes dir, if need be, and goes there. An image may leave it empty,
// which means /.
func enterWorkdir(dir string) error {
	dir = filepath.Join("/", dir)
	return cmp.Or(os.MkdirAll(dir, 0o755), os.Chdir(dir))
}

// closeOnExec lets the command inherit stdin, stdout and stderr and no other
// file: neither the pipe to run nor what gocker's caller had left open, which
// may well be a way out of the container (CVE-2024-21626 was one in runc).
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, file := range open {
		if fd, _ := strconv.Atoi(file.Name()); fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// execve replaces this process by the command argv with the environment env, after
// the writes last. A name without a slash is looked for in the PATH of env, as
// execvp(3) does. It returns only if it fails, with the status that says how.
func execve(argv, env []string, last []lastWrite) (int, error) {
	candidates := []string{argv[0]}
	if argv[0] != "" && !strings.Contains(argv[0], "/") {
		candidates = nil
		for _, dir := range filepath.SplitList(getenv(env, "PATH")) {
			candidates = append(candidates, filepath.Join(dir, argv[0]))
		}
	}
	status, err := statusNotFound, fmt.Errorf("%s: command not found", argv[0])
	for _, path := range candidates {
		if _, missing := os.Stat(path); missing != nil && !errors.Is(missing, unix.EACCES) {
			continue
		}
		e := execAfter(last, path, argv, env)
		if _, isWrite := e.(*os.SyscallError); isWrite {
			return 0, e
		}
		if e == unix.ENOENT {
			e = errors.New("its interpreter (#! line or dynamic linker) does not exist")
		}
		status, err = statusNotExecutable, fmt.Errorf("exec %s: %w", path, e)
		if e != unix.EACCES { // only a file we may not execute lets the search go on
			break
		}
	}
	return status, err
}

// getenv returns the value of the last entry for key in env, or "".
func getenv(env []string, key string) (value string) {
	for _, entry := range env {
		if k, v, _ := strings.Cut(entry, "="); k == key {
			value = v
		}
	}
	return value
}
