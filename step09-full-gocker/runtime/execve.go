package runtime

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// execve replaces this process by the first of files that can be executed. It returns only if it fails.
func execve(files, argv, env []string) error {
	for i, path := range files {
		err := unix.Exec(path, argv, env)
		if err == unix.EACCES && i < len(files)-1 {
			continue // as in execvp(3): there may be one in a later directory
		}
		return Failure{fmt.Errorf("exec: %q: %w", path, explain(err, path)), StatusNotExecutable}
	}
	return nil
}

// findCommand returns the files that name may mean, in the order in which execvp(3) tries
// them: a name without a slash is one in a directory of path, which is ":"-separated.
func findCommand(name, path string) (files []string, err error) {
	all := []string{name}
	if name != "" && !strings.Contains(name, "/") {
		all = nil
		for _, dir := range filepath.SplitList(path) {
			all = append(all, filepath.Join(dir, name))
		}
	}
	for _, file := range all {
		if _, err = os.Stat(file); err == nil || errors.Is(err, unix.EACCES) {
			files = append(files, file)
		}
	}
	switch {
	case len(files) > 0:
		return files, nil
	case strings.Contains(name, "/"):
		return nil, Failure{fmt.Errorf("exec: %q: %w", name, err), StatusNotFound}
	}
	return nil, Failure{fmt.Errorf("exec: %q: executable file not found in $PATH", name), StatusNotFound}
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
