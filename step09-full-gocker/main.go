// Command gocker is a small container engine: it makes what docker's user asks for into bundles, which
// the package runtime runs.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	stdruntime "runtime"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// Go calls init before main, on the first thread of the process, and there main stays from now on. For
// the parent-death signal threads count: prctl(2), PR_SET_PDEATHSIG.
func init() { stdruntime.LockOSThread() }

func main() {
	unix.Umask(0o022) // docker's: what is made for a container does not depend on who calls
	var err error
	switch {
	case filepath.Base(os.Args[0]) == filepath.Base(initPath): // what --init puts before the command
		os.Exit(reaper(os.Args[1:]))
	case len(os.Args) == 2 && os.Args[1] == "init": // hidden: what the runtime starts inside the new namespaces
		err = runtime.Init()
	case len(os.Args) == 2 && os.Args[1] == "enter": // and in those of a container that runs
		err = runtime.Enter()
	case len(os.Args) == 3 && os.Args[1] == "monitor": // and what run -d starts
		err = monitor(os.Args[2])
	default:
		err = rootCommand().Execute()
	}
	if err != nil {
		os.Exit(printError(err))
	}
}

// commands are what gocker can do, in the order in which help shows them. Each has a file of its own.
func commands() []*cobra.Command {
	return []*cobra.Command{
		runCommand(), execCommand(), psCommand(), logsCommand(), stopCommand(), startCommand(), restartCommand(),
		killCommand(), rmCommand(), createCommand(), pauseCommand(), unpauseCommand(), waitCommand(), renameCommand(),
		inspectCommand(), topCommand(), statsCommand(), portCommand(), cpCommand(), diffCommand(),
		imagesCommand(), pullCommand(), rmiCommand(), tagCommand(), historyCommand(), commitCommand(), loadCommand(), saveCommand(),
		volumeCommand(), systemCommand(), infoCommand(), versionCommand(), specCommand(),
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "gocker COMMAND",
		Short:         "Containers, and how they are made",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && command.Name() != "help" && command.Name() != "version" && command.Name() != "completion" {
				return failure{fmt.Errorf("%s: only root may do this; try: sudo %s", command.Name(), strings.Join(os.Args, " ")), 1}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error { return command.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = gockerVersion
	root.SetVersionTemplate("gocker version {{.Version}}\n")
	root.SetFlagErrorFunc(func(command *cobra.Command, err error) error {
		return failure{fmt.Errorf("%w\nSee '%s --help'.", err, command.CommandPath()), statusFailed}
	})
	for _, command := range commands() {
		root.AddCommand(command)
		explainArgs(command)
	}
	root.AddCommand(unsupportedCommands()...)
	return root
}

// explainArgs lets command, and those below it, answer a wrong number of arguments with its usage.
func explainArgs(command *cobra.Command) {
	for _, below := range command.Commands() {
		explainArgs(below)
	}
	check := command.Args
	if check == nil {
		return
	}
	command.Args = func(command *cobra.Command, args []string) error {
		if check(command, args) == nil {
			return nil
		}
		need := "requires at least 1 argument"
		if check(command, nil) == nil {
			need = "accepts no such arguments"
		}
		fmt.Fprintf(os.Stderr, "gocker: %q %s.\nSee '%[1]s --help'.\n\nUsage:  %[3]s\n\n%[4]s\n",
			command.CommandPath(), need, command.UseLine(), command.Short)
		return failure{nil, 1}
	}
}

// A failure is an error with an exit status of its own.
type failure struct {
	error
	status int
}

func (f failure) Unwrap() error { return f.error }

// statusFailed is run's status if it is gocker that failed, and not the command, as docker has it.
const statusFailed = runtime.StatusFailed

// statusOf is the status to exit with after err.
func statusOf(err error) int {
	var stopped interruption
	var failed failure
	var theirs runtime.Failure
	switch {
	case errors.As(err, &stopped):
		return 128 + int(stopped)
	case errors.As(err, &failed):
		return failed.status
	case errors.As(err, &theirs):
		return theirs.Status
	}
	return 1
}

// exitWith makes the exit status of a command gocker's own, if there is no error.
func exitWith(status int, err error) error {
	if err == nil && status != 0 {
		return failure{nil, status}
	}
	return err
}

// printError prints what went wrong, and returns the status to exit with.
func printError(err error) int {
	status := statusOf(err)
	if failed, ok := err.(failure); ok && failed.error == nil || errors.As(err, new(interruption)) {
		return status // the command's own
	}
	for line := range strings.Lines(err.Error()) {
		line = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) && r != '\t' { // a name in an image may have what a terminal obeys
				return -1
			}
			return r
		}, line)
		fmt.Fprintln(os.Stderr, "gocker:", line)
	}
	return status
}

func specCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "spec CONTAINER",
		Short: "Print the OCI config.json that the container's init executes",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return specOf(args[0]) },
	}
}
