package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A sandbox has a cgroup of its own in every hierarchy of the host, and in its mount
// namespace that is all there is to see of the hierarchy: what a script makes there
// is the sandbox's, and gone with it.

// cgroupsEnv lists them for the sandbox, separated by ":".
const cgroupsEnv = "GOCKER_CHECK_CGROUPS"

// cgroupMounts matches the lines of /proc/self/mountinfo, proc(5), that tell where
// the cgroup hierarchies are mounted.
var cgroupMounts = regexp.MustCompile(`(?m)^(?:\S+ ){4}(\S+) .* - (cgroup2?) .*$`)

// makeCgroups makes cgroups for a sandbox, and removes those of sandboxes whose check
// was killed. remove removes them, once the sandbox has ended.
func makeCgroups() (dirs []string, remove func() error, err error) {
	remove = func() (err error) {
		for _, dir := range dirs {
			err = errors.Join(err, removeTree(dir))
		}
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	for _, m := range cgroupMounts.FindAllStringSubmatch(string(mounts), -1) {
		if m[2] == "cgroup2" {
			if err := enableControllers(m[1]); err != nil {
				return nil, nil, errors.Join(err, remove())
			}
		}
		if err := removeOrphans(m[1]); err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		dir, err := os.MkdirTemp(m[1], fmt.Sprintf("%s%d-", cgroupPrefix, os.Getpid()))
		if err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		dirs = append(dirs, dir)
	}
	return dirs, remove, nil
}

// cgroupPrefix begins the names of sandboxes' cgroups; the PID of their check follows.
const cgroupPrefix = "gocker-check-"

// removeOrphans removes from the hierarchy dir the cgroups of checks that are no more.
// Another process that has got such a PID only keeps them a little longer.
func removeOrphans(dir string) error {
	cgroups, err := filepath.Glob(filepath.Join(dir, cgroupPrefix+"*"))
	for _, cgroup := range cgroups {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(cgroup), cgroupPrefix), "-")
		if _, missing := os.Stat("/proc/" + pid); errors.Is(missing, fs.ErrNotExist) {
			err = errors.Join(err, removeTree(cgroup))
		}
	}
	return err
}

// enableControllers gives the cgroups in dir, the root of cgroup v2, the controllers
// that the scripts need, as systemd does with most of them.
func enableControllers(dir string) error {
	has, err := os.ReadFile(dir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if slices.Contains(strings.Fields(string(has)), controller) {
			if err := os.WriteFile(dir+"/cgroup.subtree_control", []byte("+"+controller), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountCgroups mounts each of the sandbox's cgroups dirs over its hierarchy.
func mountCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := unix.Mount(dir, filepath.Dir(dir), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", dir, filepath.Dir(dir), err)
		}
	}
	return nil
}

// removeTree removes a cgroup with all that are below it. Processes that have been
// killed keep it for a moment.
func removeTree(dir string) error {
	var cgroups []string
	filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			cgroups = append(cgroups, path)
		}
		return nil
	})
	var err error
	for _, cgroup := range slices.Backward(cgroups) {
		for range 100 {
			if err = unix.Rmdir(cgroup); err == unix.ENOENT {
				err = nil // another check was faster
			}
			if err != unix.EBUSY {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			return &fs.PathError{Op: "rmdir", Path: cgroup, Err: err}
		}
	}
	return nil
}
