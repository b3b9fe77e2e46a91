package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// removeTree removes the directory top, if it is there, with all that is in it. A container may have
// made trees that are deeper than any path is long, or than files may be open: so directories are
// moved up before they are emptied.
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
				up := fmt.Sprintf("%s/%s-%d", top, newID()[:12], len(dirs)) // a name that nobody can foresee
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
