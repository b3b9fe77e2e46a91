package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// containersDir has a directory for every container that runs. It is not in /run, which is memory:
// an apt-get install in a container would fill it.
const containersDir = storeDir + "/containers"

// claimDir makes the directory parent/id and returns it, locked: that says that its gocker lives.
// One that is not locked is an orphan, whose gocker was killed: removeOrphan removes it with what
// belongs to it.
func claimDir(ctx context.Context, parent, id string, removeOrphan func(dir string) error) (*os.File, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	// Nobody may take ours for an orphan before it is locked. What takes time is done after the
	// lock on parent is released.
	all, err := lockDir(ctx, parent)
	if err != nil {
		return nil, err
	}
	orphans := lockOrphans(all)
	claimed, err := makeLocked(filepath.Join(parent, id))
	all.Close()
	for _, orphan := range orphans {
		if err := removeOrphan(orphan.Name()); err != nil {
			// The next gocker tries again.
			report(fmt.Errorf("remove %s, which another gocker left: %w", orphan.Name(), err))
		}
		orphan.Close()
	}
	return claimed, err
}

// makeLocked makes the directory dir, locked.
func makeLocked(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := tryLock(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return lock, nil
}

// lockOrphans locks and returns the directories in parent that nobody has locked.
func lockOrphans(parent *os.File) (orphans []*os.File) {
	entries, _ := parent.ReadDir(0) // those that could not be read are for the next gocker
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if lock, err := tryLock(filepath.Join(parent.Name(), entry.Name())); err == nil {
			orphans = append(orphans, lock)
		}
	}
	return orphans
}

// tryLock opens and locks the directory dir. It fails if another process has locked it.
func tryLock(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// removeTree removes the directory top, if it is there, with all that is in it. A container may
// have made trees that are deeper than any path is long, or than files may be open: so
// directories are moved up before they are emptied.
func removeTree(top string) error {
	dirs := []string{top}
	for i := 0; i < len(dirs); i++ {
		entries, err := os.ReadDir(dirs[i])
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		for _, entry := range entries {
			path := filepath.Join(dirs[i], entry.Name())
			if entry.IsDir() {
				// To a name that nobody can foresee.
				up := fmt.Sprintf("%s/%s-%d", top, newID(), len(dirs))
				err = errors.Join(err, os.Rename(path, up))
				dirs = append(dirs, up)
			} else {
				err = errors.Join(err, os.Remove(path))
			}
		}
		if err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}
