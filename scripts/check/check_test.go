package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets the test binary be the program that runs inside the sandbox.
func TestMain(m *testing.M) {
	actAsPart()
	if err := needRoot(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSteps runs against every step all scripts that it must pass, and against
// the step before it those that it adds, which must fail there: a script that
// passes before its feature is built checks nothing. With -short it runs against
// every step what that adds, and against the last one all.
func TestSteps(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	steps, err := findSteps(root)
	if err != nil {
		t.Fatal(err)
	}
	before := "" // where the step before is built
	for i, step := range steps {
		bin := filepath.Join(t.TempDir(), filepath.Base(step.dir))
		if err := os.Mkdir(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := build(step.dir, bin); err != nil {
			t.Fatal(err)
		}
		scriptsOfStep := scriptsFor
		if testing.Short() && i < len(steps)-1 {
			scriptsOfStep = scriptsOf
		}
		scripts, err := scriptsOfStep(step.number)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range scripts {
			expect(t, fmt.Sprintf("step%02d/%s", step.number, title(script)), pass, script, bin, step.number)
		}
		added, err := scriptsOf(step.number)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range added {
			if before != "" && !testing.Short() {
				expect(t, fmt.Sprintf("step%02d-fails/%s", step.number-1, title(script)), fail, script, before, step.number-1)
			}
		}
		before = bin
	}
}

// expect runs a script as a test called name.
func expect(t *testing.T, name string, want result, script, bin string, step int) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if got, log := runScript(script, bin, step); got != want {
			t.Errorf("%s, not %s, with step %02d:\n%s", got, want, step, log)
		}
	})
}
