package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// rmCommand removes containers.
func rmCommand() *cobra.Command {
	var force, volumes bool
	cmd := &cobra.Command{
		Use:               "rm [OPTIONS] CONTAINER...",
		Short:             "Remove containers",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := forEachName(cmd.OutOrStdout(), args, func(name string) error {
				return rm(strings.Trim(name, "/"), force, volumes)
			})
			return errors.Join(slices.DeleteFunc(failed, func(err error) bool {
				var unknown noContainer
				if !force || !errors.As(err, &unknown) {
					return false
				}
				cmd.PrintErrln("gocker:", err) // with -f that is worth a word, but it is not there, as wanted
				return true
			})...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill them first if they run")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove their anonymous volumes, too")
	return cmd
}

// rm removes the container that is called name.
func rm(name string, force, volumes bool) error {
	c, err := findContainer(name)
	if err != nil {
		return err
	}
	if !force {
		return removeContainer(c, volumes)
	}
	if err := goneIsEnded(killContainer(c)); err != nil {
		return fmt.Errorf("Could not kill running container %s, cannot remove - %w", c.ID, err)
	}
	return goneIsEnded(removeContainer(c, volumes)) // its monitor has removed it, if it was run with --rm
}

// mustStop is the error of removing a container that runs.
type mustStop struct {
	id     string
	paused bool
}

func (m mustStop) Error() string {
	if m.paused {
		return fmt.Sprintf("You cannot remove a paused container %s. Unpause and then stop the container before "+
			"attempting removal or force remove", m.id)
	}
	return fmt.Sprintf("You cannot remove a running container %s. Stop the container before "+
		"attempting removal or force remove", m.id)
}

// removeContainer removes all that there is of c: its anonymous volumes if that is wanted, its name
// and its directory. If c runs, the error is mustStop; if another gocker has removed it,
// noContainer. If it cannot be finished, the container is still there, and can be removed again.
func removeContainer(c *container, volumes bool) error {
	if !c.running() {
		if err := awaitEnd(context.Background(), c); err != nil { // its monitor may be just recording that
			return err
		}
	}
	lock, err := lockAgain(c)
	if err != nil {
		return err
	}
	err = removeLocked(c, volumes)
	lock.Close()
	if err != nil {
		return err
	}
	return releaseImage(c.ImageID)
}

// removeLocked is removeContainer for one who has locked c, and knows what is recorded of it.
func removeLocked(c *container, volumes bool) error {
	if !hasEnded(c) || c.running() {
		return mustStop{c.ID, c.state() == statePaused}
	}
	c.Removing = true
	if err := errors.Join(c.save(), leaveStatus(c)); err != nil && !errors.Is(err, unix.ENOSPC) {
		return err // but a full disk is a reason to remove something
	}
	if volumes {
		if err := removeVolumes(c); err != nil {
			return err
		}
	}
	link := filepath.Join(namesDir, c.Name)
	if owner, err := os.Readlink(link); err == nil && owner == c.ID {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	// The record goes last: until then the rest can be found.
	entries, err := os.ReadDir(c.dir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "container.json" {
			continue
		}
		if err := removeAny(filepath.Join(c.dir(), entry.Name()), entry.IsDir()); err != nil {
			return fmt.Errorf("remove container %s: %w", c.ID, err)
		}
	}
	err = removeTree(c.dir())
	if errors.Is(err, unix.ENOTEMPTY) { // somebody has just begun to wait for it: watchContainer
		err = removeTree(c.dir())
	}
	return err
}

// removeAny removes path, and if it is a directory what is in it.
func removeAny(path string, isDir bool) error {
	if isDir {
		return removeTree(path)
	}
	return os.Remove(path)
}
