package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// pauseCommand freezes containers: cgroups(7), freezer.
func pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "pause CONTAINER...",
		Short:             "Stop all processes of containers where they are",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachContainer(cmd.OutOrStdout(), args, func(c *container) error {
				r, err := loadRunning(c)
				if err != nil {
					return err
				}
				if r.Paused() {
					return fmt.Errorf("Container %s is already paused", c.ID)
				}
				return r.Pause()
			})
		},
	}
}

// unpauseCommand lets them go on.
func unpauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "unpause CONTAINER...",
		Short:             "Let paused containers go on",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachContainer(cmd.OutOrStdout(), args, func(c *container) error {
				r, err := loadRunning(c)
				if err != nil || !r.Paused() {
					return fmt.Errorf("Container %s is not paused", c.ID)
				}
				return r.Resume()
			})
		},
	}
}
