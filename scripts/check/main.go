// Command check runs the acceptance scripts of a step against its program, or
// against a learner's:
//
//	go run ./scripts/check 03 [--dir DIR] [--run TEXT] [-v]
//
// It needs root, and gives every script a world of its own: see sandbox.go.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

func main() {
	actAsPart()
	if err := check(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func check(args []string) error {
	flags := pflag.NewFlagSet("check", pflag.ContinueOnError)
	dir := flags.String("dir", "", "check the program in this directory instead of the step's own")
	only := flags.String("run", "", "only the scripts whose names contain this")
	verbose := flags.BoolP("verbose", "v", false, "show what every script does, also where it passes")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: check NN [--dir DIR] [--run TEXT] [-v]")
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
	scripts, err := scriptsFor(step.number)
	if err != nil {
		return err
	}
	scripts = slices.DeleteFunc(scripts, func(script string) bool { return !strings.Contains(script, *only) })
	if len(scripts) == 0 {
		return fmt.Errorf("step %02d has no script with %q in its name", step.number, *only)
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
		fmt.Printf("%-4s  %s\n", result, script)
		if result != pass || *verbose {
			fmt.Printf("\n%s\n", strings.TrimSpace(log))
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
