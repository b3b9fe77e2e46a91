package main

import (
	"time"

	"github.com/spf13/cobra"
)

// restartCommand stops containers and starts them again.
func restartCommand() *cobra.Command {
	var signalName string
	var seconds int
	command := &cobra.Command{
		Use:               "restart [OPTIONS] CONTAINER...",
		Short:             "Stop containers, and start them again",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(command *cobra.Command, args []string) error {
			n, err := parseSignal(signalName)
			if err != nil {
				return err
			}
			given := command.Flags().Changed("timeout") || command.Flags().Changed("time")
			return eachContainer(command.OutOrStdout(), args, func(c *container) error {
				patience := stopTimeout(c)
				if given {
					patience = time.Duration(seconds) * time.Second
				}
				if err := stopContainer(c, n, patience); err != nil {
					return err
				}
				return startMonitor(c)
			})
		},
	}
	addStopFlags(command, &signalName, &seconds)
	return command
}
