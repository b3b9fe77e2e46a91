package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter/tabwriter"
	"github.com/spf13/cobra"
)

// topCommand shows the processes of a container as the host sees them.
func topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "top CONTAINER [PS OPTIONS]",
		Short:             "Show the processes of a container, as ps(1) on the host does",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			r, err := loadRunning(c)
			if err != nil {
				return err
			}
			options := args[1:]
			if len(options) == 0 {
				options = []string{"-ef"}
			}
			all, err := exec.Command("ps", options...).Output()
			var failed *exec.ExitError
			if errors.As(err, &failed) && len(failed.Stderr) > 0 {
				text, _, _ := strings.Cut(string(failed.Stderr), "\n")
				return fmt.Errorf("ps: %s", text)
			}
			if err != nil {
				return fmt.Errorf("ps: %w", err)
			}
			pids, err := r.PIDs()
			if err != nil {
				return err
			}
			return showProcesses(cmd.OutOrStdout(), string(all), pids)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the container is for ps
	return cmd
}

// showProcesses prints those lines of ps's output that belong to pids, in docker's columns.
func showProcesses(out io.Writer, output string, pids []int) error {
	head, lines, _ := strings.Cut(output, "\n")
	titles := strings.Fields(head)
	column := slices.Index(titles, "PID")
	if column < 0 {
		return errors.New("Couldn't find PID field in ps output")
	}
	table := tabwriter.NewWriter(out, 20, 1, 3, ' ', 0)
	fmt.Fprintln(table, strings.Join(titles, "\t"))
	shown := false // the line before, to which a thread's line (with - for a PID) belongs
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) < len(titles) {
			continue
		}
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return fmt.Errorf("Unexpected pid '%s': %w", fields[column], err)
			}
			shown = slices.Contains(pids, pid)
		}
		if shown {
			// The last column, the command, may have spaces in it.
			last := len(titles) - 1
			fmt.Fprintln(table, strings.Join(append(fields[:last:last], strings.Join(fields[last:], " ")), "\t"))
		}
	}
	return table.Flush()
}
