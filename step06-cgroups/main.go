// Command gocker runs a command in a container. What each step adds to it is in README.md.
package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const usage = `usage: gocker run [--mem SIZE] [--swap SIZE] [--cpus N] [--pids N] IMAGE [CMD [ARG...]] | gocker pull IMAGE`

// Go calls init before main, on the first thread of the process, and there main stays from
// now on. For dieWithParent, in init.go, threads count: the signal is sent when the thread
// of gocker ends that has called clone(2), and it is the child's thread that called prctl(2)
// which has to execute the command.
func init() { runtime.LockOSThread() }

func main() {
	unix.Umask(0o022) // docker's: what is made for a container does not depend on who calls
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
	// The name of a file in an image may have characters that a terminal obeys.
	line = regexp.MustCompile(`\p{Cc}`).ReplaceAllString(line, "?")
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
	case "pull":
		most = 1
	default:
		return 0, fmt.Errorf("unknown command %q; %s", command, usage)
	}
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	flags.SetInterspersed(false) // what follows the first argument is not for gocker
	flags.Usage = func() {}
	var l limits
	if command == "run" {
		l.addFlags(flags)
	}
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
	if l.swap > 0 && l.memory == 0 {
		return 0, fmt.Errorf("run: --swap needs --mem; %s", usage)
	}
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("%s: only root may do this; try: sudo %s", command, commandLine(os.Args))
	}
	if command == "pull" {
		return 0, pull(catchSignals(), flags.Arg(0))
	}
	status, err := run(flags.Arg(0), flags.Args()[1:], l)
	var failed failure
	if errors.As(err, &failed) && failed.status == statusNotFound && strings.HasPrefix(flags.Arg(1), "--") {
		err = fmt.Errorf("%w: gocker's own flags come before IMAGE", err)
	}
	return status, err
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
