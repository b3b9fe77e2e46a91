package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"gocker/scripts/internal/labimage"
)

// runTestscript runs script, a path in testdata, and tells whether it passed. The
// scripts have testscript's own commands and these:
//
//	gocker ARG...                 must exit with 0, with ! in front with anything else
//	status N COMMAND ARG...       the command must exit with N
//	as-nobody COMMAND ARG...      like exec, as a user who is not root
//	registry ADDRESS [FAULT]      from here on there is a registry: see registry.go
//	rootfs DIR                    makes DIR a root file system, of the lab image
//
// testdata/container.sh, with functions for the shell, is in the PATH, and so is
//
//	terminal DIALOGUE COMMAND ARG...   runs a command on a terminal: see terminal.go
//	udp listen|ask ...                 a server and a client of UDP: see udp.go
//
// There are these variables:
//
//	$IMAGE   what to run a command in: nothing in steps 01 and 02, a root file
//	         system in step 03, and from 04 on the name of the lab image
//	$LAB_DIGEST   the digest of the lab image's manifest, from step 04 on
//	$SERVER  the address of an HTTP server behind the host, from step 07 on
//
// An argument that is empty, as $IMAGE is at first, is none.
func runTestscript(script string, number int) bool {
	text, err := testdata.ReadFile(script)
	if err != nil {
		fmt.Println(err)
		return false
	}
	file := filepath.Join(checkDir, filepath.Base(script))
	if err := os.WriteFile(file, text, 0o644); err != nil {
		fmt.Println(err)
		return false
	}
	params := testscript.Params{
		Files:       []string{file},
		WorkdirRoot: checkDir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SERVER", serverAddress)
			env.Setenv("PATH", checkDir+"/bin:"+os.Getenv("PATH"))
			env.Setenv("DOCKER_CONFIG", env.WorkDir)
			env.Setenv(timeoutEnv, os.Getenv(timeoutEnv)) // for terminal
			switch {
			case number < 3:
				env.Setenv("IMAGE", "")
			case number == 3:
				env.Setenv("IMAGE", checkDir+"/rootfs")
				return writeRootfs(checkDir + "/rootfs")
			default:
				env.Setenv("IMAGE", labAddress+"/lab")
				lab, err := labimage.Lab()
				if err != nil {
					return err
				}
				digest, err := lab.Digest()
				if err != nil {
					return err
				}
				env.Setenv("LAB_DIGEST", digest.String())
				return startRegistry(labAddress, "")
			}
			return nil
		},
		Cmds: commands,
	}
	t := &scriptT{out: os.Stdout}
	done := make(chan bool)
	go func() {
		defer close(done) // FailNow ends the goroutine
		testscript.RunT(t, params)
	}()
	<-done
	return !t.failed
}

// commands are what the scripts have beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"gocker": func(ts *testscript.TestScript, neg bool, args []string) {
		want(ts, neg, 0, append([]string{"gocker"}, args...))
	},
	"status": func(ts *testscript.TestScript, neg bool, args []string) {
		status, err := strconv.Atoi(args[0])
		ts.Check(err)
		want(ts, neg, status, args[1:])
	},
	"as-nobody": func(ts *testscript.TestScript, neg bool, args []string) {
		want(ts, neg, 0, append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...))
	},
	"registry": func(ts *testscript.TestScript, neg bool, args []string) {
		ts.Check(startRegistry(args[0], strings.Join(args[1:], " ")))
	},
	"rootfs": func(ts *testscript.TestScript, neg bool, args []string) {
		ts.Check(writeRootfs(ts.MkAbs(args[0])))
	},
}

// want runs argv and fails unless it exits with status, or, if neg, with another.
func want(ts *testscript.TestScript, neg bool, status int, argv []string) {
	var args []string
	for _, arg := range argv {
		if arg != "" {
			args = append(args, arg)
		}
	}
	err := ts.Exec(args[0], args[1:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			ts.Fatalf("%s was ended by signal %v", args[0], ws.Signal())
		}
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if (got == status) == neg {
		ts.Fatalf("exit status %d", got)
	}
}

// scriptT is the little that testscript needs of a testing.T.
type scriptT struct {
	out    io.Writer
	failed bool
}

func (t *scriptT) Skip(args ...any) {
	// A script that does nothing has not passed.
	t.Fatal(append([]any{"skipped:"}, args...)...)
}
func (t *scriptT) Fatal(args ...any) { t.Log(args...); t.FailNow() }
func (t *scriptT) Log(args ...any)   { fmt.Fprintln(t.out, args...) }
func (t *scriptT) FailNow()          { t.failed = true; runtime.Goexit() }
func (t *scriptT) Parallel()         {}
func (t *scriptT) Verbose() bool     { return true }
func (t *scriptT) Run(_ string, f func(testscript.T)) {
	done := make(chan bool)
	go func() {
		defer close(done)
		f(t)
	}()
	<-done
}
