// Command gocker runs a command in a container. What each step adds to it is in README.md.
package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

const usage = `usage: gocker run CMD [ARG...]`

func main() {
	status, err := gocker(os.Args[1:])
	if err != nil {
		status = report(err)
	}
	os.Exit(status)
}

// report prints what went wrong, as one line, and returns the status to exit with.
func report(err error) int {
	if signal, ok := err.(interruption); ok {
		return 128 + int(signal) // without a word, as of a command that it had ended
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ") // joined errors have a line each
	fmt.Fprintln(os.Stderr, "gocker:", line)
	var failed failure
	if errors.As(err, &failed) {
		return failed.status
	}
	return statusFailed
}

// gocker carries out one command line, given without the program's name, and
// returns the status to exit with if nothing went wrong.
func gocker(args []string) (int, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("no command given; %s", usage)
	}
	command, least, most := args[0], 1, math.MaxInt // how many arguments it takes
	switch command {
	case "init": // hidden: what run starts inside the new namespaces
		return 0, initContainer()
	case "help", "-h", "--help":
		fmt.Println(usage)
		return 0, nil
	case "run":
	default:
		return 0, fmt.Errorf("unknown command %q; %s", command, usage)
	}
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	flags.SetInterspersed(false) // what follows the first argument is not for gocker
	flags.Usage = func() {}
	err := flags.Parse(args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Println(usage)
		return 0, nil
	}
	if err != nil {
		if strings.Contains(err.Error(), "flag: 'i'") || strings.Contains(err.Error(), "flag: 't'") {
			err = fmt.Errorf("%w: unlike with docker, stdin and the terminal are always the command's", err)
		}
		return 0, fmt.Errorf("%s: %w; %s", command, err, usage)
	}
	if flags.NArg() < least || flags.NArg() > most {
		return 0, fmt.Errorf("%s: wrong number of arguments; %s", command, usage)
	}
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("%s: only root may do this; try: sudo %s", command, commandLine(os.Args))
	}
	return run(flags.Args())
}

// commandLine returns args as one types them in a shell.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$`*?[]{}()<>|&;#~!") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
