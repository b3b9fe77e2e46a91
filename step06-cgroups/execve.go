package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findCommand returns the files that name may mean, in the order in which they are to be
// tried: a name without a slash is one in a directory of path, which is ":"-separated. This is
// what execvp(3) does if there is a PATH; without one it would look in /bin and /usr/bin.
func findCommand(name, path string) (files []string, err error) {
	all := []string{name}
	if name != "" && !strings.Contains(name, "/") {
		all = nil
		for _, dir := range filepath.SplitList(path) {
			all = append(all, filepath.Join(dir, name))
		}
	}
	for _, file := range all {
		if _, err := os.Stat(file); err == nil || errors.Is(err, unix.EACCES) {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return nil, failure{fmt.Errorf("%s: command not found", name), statusNotFound}
	}
	return files, nil
}

// execve replaces this process by the command argv, which is the first of files that may be
// executed, with the environment env. It returns only if it fails.
func execve(files, argv, env []string) error {
	if err := forgetSignals(); err != nil {
		return err
	}
	for i, path := range files {
		err := unix.Exec(path, argv, env)
		if err == unix.EACCES && i < len(files)-1 {
			continue // as in execvp(3): there may be one in a later directory
		}
		return failure{fmt.Errorf("exec %s: %w", path, explain(err, path)), statusNotExecutable}
	}
	return nil
}

// explain says what err of execve(2) on the file path is about.
func explain(err error, path string) error {
	info, e := os.Stat(path)
	switch {
	case e == nil && info.IsDir():
		return fmt.Errorf("%w: it is a directory", err)
	case err == unix.ENOENT:
		return errors.New("its interpreter (#! line or dynamic linker) does not exist")
	case err == unix.ENOEXEC:
		theirs, e1 := machine(path)
		ours, e2 := machine("/proc/self/exe")
		if e1 != nil {
			return fmt.Errorf("%w: it is neither an ELF program nor a script with #! in its first line", err)
		}
		if e2 == nil {
			return fmt.Errorf("%w: it is for %s, and this machine is %s", err, theirs, ours)
		}
	}
	return err
}

// machine returns the name of the processor that the ELF program path is for: elf(5).
func machine(path string) (string, error) {
	program, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer program.Close()
	return strings.TrimPrefix(program.Machine.String(), "EM_"), nil
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
