package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// renameCommand gives a container another name.
func renameCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NEW_NAME",
		Short:             "Give a container another name",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			return renameContainer(c, args[1])
		},
	}
}

// renameContainer gives c the name given, if no other container has it.
func renameContainer(c *container, name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err)
	}
	name = strings.TrimPrefix(name, "/")
	lock, err := lockAgain(c)
	if err != nil {
		return err
	}
	defer lock.Close()
	if name == c.Name {
		return errors.New("Renaming a container with the same name as its current name")
	}
	if err := takeName(name, c.ID); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err)
	}
	old := c.Name
	c.Name = name
	if err := c.save(); err != nil {
		return errors.Join(err, os.Remove(filepath.Join(namesDir, name)))
	}
	return os.Remove(filepath.Join(namesDir, old))
}
