package main

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// closeOnExec lets the child inherit stdin, stdout, stderr and its socket, and no other file
// that gocker's caller had left open. Such a one may well be a way out of the container, as
// CVE-2024-21626 was in runc.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, file := range open {
		fd, err := strconv.Atoi(file.Name())
		if err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// baseEnv is the environment that every command starts with, but for HOME. Nothing of the
// host's is passed on but the kind of terminal.
func baseEnv(id string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + id,
	}
	if term, ok := os.LookupEnv("TERM"); ok {
		env = append(env, "TERM="+term)
	}
	return env
}

// addEnv returns env with entries, which take the place of those with the same names.
func addEnv(env, entries []string) []string {
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, entry)
	}
	return env
}

// addHome returns env with the HOME of root, as the root directory has it, unless env has another.
func addHome(env []string) []string {
	return addEnv([]string{"HOME=" + homeOfRoot("/etc/passwd")}, env)
}

// homeOfRoot returns the home directory of user 0, which is / unless the file passwd, if
// that is one, says something else: passwd(5).
func homeOfRoot(passwd string) string {
	file, err := os.OpenFile(passwd, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a FIFO
	if err != nil {
		return "/"
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "/"
	}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[2] == "0" && fields[5] != "" {
			return fields[5]
		}
	}
	return "/"
}
