// Command check runs the acceptance scripts of a step against its program, or
// against a learner's. It gives every script a world of its own: see sandbox.go.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
)

const usage = `usage: check NN [--dir DIR] [--run TEXT] [-v]

Runs the acceptance scripts of step NN, which are in scripts/check/testdata, against its
program. It needs root.

  --dir DIR    check the program in DIR instead: a Go module, or a program called gocker
  --run TEXT   only the scripts with TEXT in their titles; hostname, host-name and
               "host name" are the same
  -v           show all that every script does, also where it passes
`

func main() {
	actAsPart()
	if err := check(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func check(args []string) error {
	flags := pflag.NewFlagSet("check", pflag.ContinueOnError)
	flags.Usage = func() { fmt.Print(usage) }
	dir := flags.String("dir", "", "")
	only := flags.String("run", "", "")
	verbose := flags.BoolP("verbose", "v", false, "")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("which step? usage: check NN [--dir DIR] [--run TEXT] [-v]")
	}
	if err := needRoot(); err != nil {
		return err
	}
	root, err := repository()
	if err != nil {
		return err
	}
	step, err := findStep(root, flags.Arg(0))
	if err != nil {
		return err
	}
	scripts, err := selectScripts(step.number, *only)
	if err != nil {
		return err
	}
	if *dir == "" {
		*dir = step.dir
	}
	bin, err := os.MkdirTemp("", "gocker-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := build(*dir, bin); err != nil {
		return err
	}
	failed := 0
	for _, script := range scripts {
		result, log := runScript(script, bin, step.number)
		fmt.Printf("%-4s  %s\n", result, title(script))
		switch {
		case *verbose, result == broken:
			fmt.Printf("\n%s\n\n", strings.TrimSpace(log))
		case result == fail:
			text, err := testdata.ReadFile(script)
			if err != nil {
				return err
			}
			fmt.Print(summary(string(text), log))
			fmt.Printf("  the script: scripts/check/%s\n  the whole log: check %02d --run %s -v\n\n", script, step.number, title(script))
		}
		if result != pass {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("step %02d: %d of %d scripts failed", step.number, failed, len(scripts))
	}
	fmt.Printf("step %02d: %d scripts pass\n", step.number, len(scripts))
	return nil
}

// selectScripts returns the scripts that step number must pass and that have text in
// their titles.
func selectScripts(number int, text string) ([]string, error) {
	scripts, err := scriptsFor(number)
	if err != nil {
		return nil, err
	}
	found := withTitle(scripts, text)
	if len(found) == 0 {
		// The step's own come last, and are most likely what was meant.
		last := scripts[max(0, len(scripts)-3):]
		return nil, fmt.Errorf("step %02d has no script with %q in its title; some that it has: %s",
			number, text, strings.Join(titles(last), ", "))
	}
	return found, nil
}

// needRoot says what to do if this process is not root's. Skipping would look
// like passing.
func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the checks create namespaces and mounts, which only root can; run them with sudo")
	}
	return nil
}

// repository is the directory with go.work, found from where this file was compiled;
// or, where there is no Go, another with directories for the steps, each with a program
// gocker.
func repository() (string, error) {
	if dir := os.Getenv("GOCKER_CHECK_STEPS"); dir != "" {
		return dir, nil
	}
	_, file, _, _ := runtime.Caller(0)
	for dir := filepath.Dir(file); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no go.work above %s", file)
}
