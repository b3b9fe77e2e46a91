package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// waitCommand waits for the end of containers.
func waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "wait CONTAINER...",
		Short:             "Wait until containers have ended and print their exit statuses",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed []error
			for _, name := range args {
				c, err := findContainer(name)
				if err == nil {
					err = awaitEnd(cmd.Context(), c)
				}
				if err != nil {
					failed = append(failed, err)
					continue
				}
				fmt.Fprintln(cmd.OutOrStdout(), c.ExitCode)
			}
			return errors.Join(failed...)
		},
	}
}
