package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/moby/sys/signal"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

const (
	stopPatience = 10 * time.Second // from the stop signal to SIGKILL, as docker
	killPatience = 10 * time.Second // from SIGKILL to the end, which the kernel may put off
)

// stopCommand ends containers politely.
func stopCommand() *cobra.Command {
	var signalName string
	var seconds int
	cmd := &cobra.Command{
		Use:               "stop [OPTIONS] CONTAINER...",
		Short:             "Stop containers: SIGTERM, and SIGKILL if that does not help",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parseSignal(signalName)
			if err != nil {
				return err
			}
			given := cmd.Flags().Changed("timeout") || cmd.Flags().Changed("time")
			return eachContainer(cmd.OutOrStdout(), args, func(c *container) error {
				patience := stopTimeout(c)
				if given {
					patience = time.Duration(seconds) * time.Second
				}
				return stopContainer(c, n, patience)
			})
		},
	}
	addStopFlags(cmd, &signalName, &seconds)
	return cmd
}

// addStopFlags adds the flags of stop and restart.
func addStopFlags(cmd *cobra.Command, signalName *string, seconds *int) {
	flags := cmd.Flags()
	flags.StringVarP(signalName, "signal", "s", "", "send this `signal` instead of the container's stop signal")
	flags.IntVarP(seconds, "timeout", "t", 10, "kill it after so many `seconds`; -1 for never")
	flags.IntVar(seconds, "time", 10, "the same")
	flags.MarkHidden("time")
}

// stopTimeout is how long c may take to end when it is asked to.
func stopTimeout(c *container) time.Duration {
	if c.Config.StopTimeout != nil {
		return time.Duration(*c.Config.StopTimeout) * time.Second
	}
	return stopPatience
}

// stopContainer asks c to end, by the signal n, or the container's stop signal if that is 0, and
// kills it if it has not ended in the time given (never if that is negative). It returns when the
// end is recorded; for a container that does not run, at once.
func stopContainer(c *container, n unix.Signal, patience time.Duration) error {
	if hasEnded(c) {
		return nil
	}
	if n == 0 {
		n = unix.SIGTERM
		if c.Config.StopSignal != "" {
			var err error
			if n, err = parseSignal(c.Config.StopSignal); err != nil {
				return err
			}
		}
	}
	ctx := context.Background()
	if patience >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	err := goneIsEnded(signalContainer(c, n))
	if err == nil {
		err = awaitEnd(ctx, c)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = killContainer(c)
	}
	return goneIsEnded(err)
}

// killContainer sends SIGKILL to c and waits until its end is recorded.
func killContainer(c *container) error {
	if err := signalContainer(c, unix.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	err := awaitEnd(ctx, c)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("container %s has not ended in %v after SIGKILL", c.ID, killPatience)
	}
	return goneIsEnded(err)
}

// goneIsEnded forgives that a container has ended, and was perhaps removed, before it was told to.
func goneIsEnded(err error) error {
	var gone noContainer
	var ended notRunning
	if errors.As(err, &gone) || errors.As(err, &ended) {
		return nil
	}
	return err
}

// notRunning is the error for a container that has to run for what is wanted. It is the ID.
type notRunning string

func (n notRunning) Error() string { return fmt.Sprintf("Container %s is not running", string(n)) }

// loadRunning returns the runtime's side of c, which has to run.
func loadRunning(c *container) (*runtime.Container, error) {
	r, err := runtime.Load(c.ID)
	if errors.Is(err, os.ErrNotExist) || err == nil && !r.Running() {
		return nil, notRunning(c.ID)
	}
	return r, err
}

// signalContainer sends the signal n to process 1 of c. If c is paused, it goes on: it could not
// die otherwise.
func signalContainer(c *container, n unix.Signal) error {
	r, err := loadRunning(c)
	if err != nil {
		return err
	}
	err = r.Signal(n)
	if errors.Is(err, unix.ESRCH) {
		return notRunning(c.ID)
	}
	if err == nil && r.Paused() {
		err = r.Resume()
	}
	return err
}

// parseSignal returns the signal that is called name, as KILL, SIGKILL or 9; 0 if that is empty.
func parseSignal(name string) (unix.Signal, error) {
	if name == "" {
		return 0, nil
	}
	n, err := signal.ParseSignal(name)
	if err != nil {
		return 0, fmt.Errorf("Invalid signal: %s", name)
	}
	if !signal.ValidSignalForPlatform(syscall.Signal(n)) {
		return 0, fmt.Errorf("Invalid signal: %s: Linux has none of that number", name)
	}
	return n, nil
}

// killCommand sends a signal to containers.
func killCommand() *cobra.Command {
	var signalName string
	cmd := &cobra.Command{
		Use:               "kill [OPTIONS] CONTAINER...",
		Short:             "Send a signal to containers, SIGKILL if no other is given",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parseSignal(signalName)
			if err != nil {
				return err
			}
			failed := forEachName(cmd.OutOrStdout(), args, func(name string) error {
				c, err := findContainer(name)
				if err != nil {
					return fmt.Errorf("Cannot kill container: %s: %w", name, err)
				}
				if n == 0 || n == unix.SIGKILL {
					err = killContainer(c)
				} else {
					err = signalContainer(c, n)
				}
				if err != nil {
					return fmt.Errorf("Cannot kill container: %s: %w", name, err)
				}
				return nil
			})
			return errors.Join(failed...)
		},
	}
	cmd.Flags().StringVarP(&signalName, "signal", "s", "", "the `signal`, as KILL, SIGKILL or 9")
	return cmd
}

// eachContainer does something to all containers of the names given, and prints the names of those
// that it was done to.
func eachContainer(out io.Writer, names []string, do func(c *container) error) error {
	failed := forEachName(out, names, func(name string) error {
		c, err := findContainer(name)
		if err != nil {
			return err
		}
		return do(c)
	})
	return errors.Join(failed...)
}

// forEachName does something for all names at the same time, and prints those for which it could be
// done, in their order. It returns the errors of the others.
func forEachName(out io.Writer, names []string, do func(name string) error) (failed []error) {
	results := make([]chan error, len(names))
	for i, name := range names {
		results[i] = make(chan error, 1)
		go func() { results[i] <- do(name) }()
	}
	for i, name := range names {
		if err := <-results[i]; err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(out, name)
	}
	return failed
}
