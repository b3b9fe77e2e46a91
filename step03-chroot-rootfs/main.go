// Command gocker runs a command in a container: see docs/ for the chapter that
// belongs to this step.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const usage = `usage: gocker run ROOTFS CMD [ARG...]`

// The exit statuses that are gocker's own rather than the command's. They are
// docker's, which took 126 and 127 from the shell (POSIX XCU 2.8.2).
const (
	statusFailed        = 125 // gocker itself failed
	statusNotExecutable = 126 // the command was found but could not be executed
	statusNotFound      = 127 // the command was not found
)

// The main goroutine stays on the first thread of the process. Pdeathsig in run.go
// is tied to threads at both ends: it is sent when the one that called clone(2)
// ends, and only the first one of the child keeps it through its execve(2).
func init() { runtime.LockOSThread() }

func main() {
	unix.Umask(0o022) // docker's: what is made for a container does not depend on who calls
	status, err := gocker(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gocker:", err)
		status = cmp.Or(status, statusFailed)
	}
	os.Exit(status)
}

// gocker carries out one command line, given without the program's name, and
// returns the status to exit with, where 0 with an error stands for statusFailed.
func gocker(args []string) (int, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("no command given; %s", usage)
	}
	command, args := args[0], args[1:]
	if command == "init" { // hidden: what run starts inside the new namespaces
		return initContainer(args)
	}
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	flags.SetInterspersed(false) // what follows the first argument is not for gocker
	flags.Usage = func() {}
	err := flags.Parse(args)
	arguments, known := map[string]struct{ min, max int }{"run": {2, math.MaxInt}}[command]
	switch {
	case command == "help", command == "-h", command == "--help", errors.Is(err, pflag.ErrHelp):
		fmt.Println(usage)
		return 0, nil
	case !known:
		return 0, fmt.Errorf("unknown command %q; %s", command, usage)
	case err != nil:
		return 0, fmt.Errorf("%s: %w; %s", command, err, usage)
	case flags.NArg() < arguments.min, flags.NArg() > arguments.max:
		return 0, fmt.Errorf("%s: wrong number of arguments; %s", command, usage)
	case os.Geteuid() != 0:
		return 0, fmt.Errorf("%s: only root may do this; try: sudo gocker %s", command, command)
	}
	return run(flags.Arg(0), flags.Args()[1:])
}
