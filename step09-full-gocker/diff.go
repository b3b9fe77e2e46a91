package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// A change is what a container has done to a file of its image.
type change struct {
	kind byte // 'A'dded, 'C'hanged or 'D'eleted
	path string
}

func (c change) String() string { return fmt.Sprintf("%c %s", c.kind, c.path) }

// diffCommand is "gocker diff".
func diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "Inspect changes to files or directories on a container's filesystem",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			changes, err := c.changes()
			if err != nil {
				return err
			}
			for _, change := range changes {
				fmt.Fprintln(cmd.OutOrStdout(), change)
			}
			return nil
		},
	}
}

// changes returns what c has changed of its image, a directory before what is in it.
func (c *container) changes() (changes []change, err error) {
	img, err := findImage(c.ImageID)
	if err != nil {
		return nil, err
	}
	upper := c.dir() + "/upper"
	if _, err := os.Stat(upper); errors.Is(err, os.ErrNotExist) {
		return nil, nil // it has never been started
	}
	err = withImage(c.dir()+"/merged", img.layerDirs(), func(lower int) error {
		changes, err = compareDirs(fdPath(lower), upper, "/")
		return err
	})
	return changes, err
}

// engineFiles are in upper because something is mounted on them, and no change of the container's.
var engineFiles = []string{"/.dockerenv", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"}

// compareDirs returns what upper/dir, of an overlayfs, changes of lower/dir, the directory with all
// layers below it. Neither has a link on the way: overlayfs does not follow any. See
// Documentation/filesystems/overlayfs.rst in the kernel.
func compareDirs(lower, upper, dir string) (changes []change, err error) {
	entries, err := os.ReadDir(filepath.Join(upper, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // removed by a container that runs
		return nil, err
	}
	inUpper := map[string]bool{}
	for _, entry := range entries {
		inUpper[entry.Name()] = true
		found, err := compareEntry(lower, upper, path.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		changes = append(changes, found...)
	}
	if !isOpaque(filepath.Join(upper, dir)) {
		return changes, nil
	}
	entries, err = os.ReadDir(filepath.Join(lower, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	for _, entry := range entries {
		if !inUpper[entry.Name()] {
			changes = append(changes, change{'D', path.Join(dir, entry.Name())})
		}
	}
	return changes, nil
}

// compareEntry returns what name in upper changes, and if it is a directory what is in it.
func compareEntry(lower, upper, name string) ([]change, error) {
	if slices.Contains(engineFiles, name) {
		return nil, nil
	}
	var before, now unix.Stat_t
	err := unix.Lstat(filepath.Join(upper, name), &now)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lstat %s: %w", filepath.Join(upper, name), err)
	}
	wasThere := unix.Lstat(filepath.Join(lower, name), &before) == nil
	if isType(now, unix.S_IFCHR) && now.Rdev == 0 { // a whiteout: removed
		if wasThere {
			return []change{{'D', name}}, nil
		}
		return nil, nil
	}
	var inside []change
	if isType(now, unix.S_IFDIR) {
		if inside, err = compareDirs(lower, upper, name); err != nil {
			return nil, err
		}
	}
	switch {
	case !wasThere && name == "/etc" && len(inside) == 0:
		return nil, nil // it is there for engineFiles
	case !wasThere:
		return append([]change{{'A', name}}, inside...), nil
	case len(inside) > 0 || !sameStat(before, now) ||
		!bytes.Equal(fileCapabilities(filepath.Join(lower, name)), fileCapabilities(filepath.Join(upper, name))):
		return append([]change{{'C', name}}, inside...), nil
	}
	return nil, nil
}

// sameStat tells whether a file that overlayfs has copied up is as it was, as far as docker looks:
// a directory has changed if its owner or mode has, or if something in it has.
func sameStat(a, b unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return false
	}
	return isType(a, unix.S_IFDIR) || (a.Size == b.Size && a.Mtim == b.Mtim)
}

// fileCapabilities returns the extended attribute with a file's capabilities, or nothing.
func fileCapabilities(name string) []byte {
	value := make([]byte, 64)
	n, err := unix.Lgetxattr(name, capabilityAttr, value)
	if err != nil {
		return nil
	}
	return value[:n]
}

// isOpaque tells whether overlayfs hides all that the layers below have in the directory dir.
func isOpaque(dir string) bool {
	value := make([]byte, 1)
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value)
	return err == nil && n == 1 && value[0] == 'y'
}
