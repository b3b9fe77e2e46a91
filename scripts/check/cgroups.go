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
	var locks []*os.File
	remove = func() (err error) {
		for i, dir := range dirs {
			err = errors.Join(err, removeTree(dir), locks[i].Close())
		}
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	for _, m := range cgroupMounts.FindAllStringSubmatch(string(mounts), -1) {
		dir, lock, err := makeCgroup(m[1], m[2] == "cgroup2")
		if err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		dirs, locks = append(dirs, dir), append(locks, lock)
	}
	return dirs, remove, nil
}

// cgroupPrefix begins the names of sandboxes' cgroups.
const cgroupPrefix = "gocker-check-"

// makeCgroup makes a cgroup for a sandbox in the hierarchy root, and removes those there
// that nobody has locked any more. Ours is locked until lock is closed, or this process
// ends: flock(2).
func makeCgroup(root string, isV2 bool) (dir string, lock *os.File, err error) {
	if isV2 {
		if err := enableControllers(root); err != nil {
			return "", nil, err
		}
	}
	all, err := lockDir(root, unix.LOCK_EX) // so that nobody finds ours before it is locked
	if err != nil {
		return "", nil, err
	}
	defer all.Close()
	others, err := filepath.Glob(filepath.Join(root, cgroupPrefix+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, orphan := range others {
		if lock, err := lockDir(orphan, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			removeTree(orphan) // if that fails, the next check tries again
			lock.Close()
		}
	}
	dir, err = os.MkdirTemp(root, cgroupPrefix)
	if err != nil {
		return "", nil, err
	}
	if err := giveCPUs(dir); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	lock, err = lockDir(dir, unix.LOCK_EX)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, lock, nil
}

// giveCPUs gives a cgroup of the v1 controller cpuset what the one above it has: a new one has no CPU
// and no memory, and no process can be in it.
func giveCPUs(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		has, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if errors.Is(err, fs.ErrNotExist) { // another controller, or v2
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), has, 0); err != nil {
			return err
		}
	}
	return nil
}

// lockDir opens and locks the directory dir; how says what happens if it is locked.
func lockDir(dir string, how int) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
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
