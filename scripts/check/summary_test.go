package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestSummary runs scripts that fail, with a shell script for gocker, and compares what
// is said of them.
func TestSummary(t *testing.T) {
	bin := t.TempDir()
	program := "#!/bin/sh\nshift\nexec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "gocker"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, script, want string }{
		{"exit status", `
# A comment, and a variable.
gocker run $IMAGE true
gocker run $IMAGE sh -c 'echo $HOME; echo out; echo err >&2; exit 3'
`, `
  typed     gocker run sh -c 'echo $HOME; echo out; echo err >&2; exit 3'  (line 4)
  came      exit status 3
            stdout: /no-home
            stdout: out
            stderr: err
  expected  exit status 0
`},
		{"another exit status", `status 7 gocker run sh -c 'exit 8'`, `
  typed     gocker run sh -c 'exit 8'  (line 1)
  came      exit status 8
  expected  exit status 7
`},
		{"success", `! gocker run true`, `
  typed     gocker run true  (line 1)
  came      exit status 0
  expected  not exit status 0
`},
		{"output", `
gocker run echo $NAME
stdout '.'
! stderr .

stdout '^lab$'
`, `
  typed     gocker run echo a name  (line 2, checked in line 6)
  came      stdout: a name
  expected  stdout matching '^lab$'
`},
		{"output that should not be", `
gocker run seq 100
! stdout '^50$'
`, `
  typed     gocker run seq 100  (line 2, checked in line 3)
  came      stdout: 1
            stdout: 2
            stdout: 3
            … and 97 lines more
  expected  stdout not matching '^50$'
`},
		{"no output", `
gocker run true
stdout .
`, `
  typed     gocker run true  (line 2, checked in line 3)
  came      nothing
  expected  stdout matching .
`},
		{"output that looks like a log", `
gocker run printf '> gocker\nFAIL: x\n'
stdout lab
`, `
  typed     gocker run printf '> gocker\nFAIL: x\n'  (line 2, checked in line 3)
  came      nothing
  expected  stdout matching lab
`},
		{"cmp", `
exec sh two.sh
cmp stdout want
-- two.sh --
echo first
echo second
-- want --
first
other
`, `
  typed     sh two.sh  (line 2, checked in line 3)
  came      stdout: first
            stdout: second
  expected  no difference between stdout want (- came, + expected):
            -second
            +other
`},
		{"exec", `
exec sh -c 'echo no; exit 4'
`, `
  typed     sh -c 'echo no; exit 4'  (line 2)
  came      exit status 4
            stdout: no
  expected  exit status 0
`},
		{"a file", `
gocker run echo there
exists file
`, `
  typed     gocker run echo there  (line 2, checked in line 3)
  came      $WORK/file does not exist
            stdout: there
  expected  exists file
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "script.txtar")
			if err := os.WriteFile(file, []byte(test.script), 0o644); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			recorder := &scriptT{out: &log}
			done := make(chan bool)
			go func() {
				defer close(done) // FailNow ends the goroutine
				testscript.RunT(recorder, testscript.Params{
					Files: []string{file},
					Cmds:  commands,
					Setup: func(env *testscript.Env) error {
						env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
						env.Setenv("IMAGE", "")
						env.Setenv("NAME", "a name")
						return nil
					},
				})
			}()
			<-done
			if !recorder.failed {
				t.Fatalf("the script passes:\n%s", log.String())
			}
			got := summary(test.script, log.String())
			if want := strings.TrimPrefix(test.want, "\n"); got != want {
				t.Errorf("%s\nnot:\n%s\nthe log:\n%s", got, want, log.String())
			}
			if n := strings.Count(got, "\n"); n > 10 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

// TestSummaryWithoutALog has what check itself says of a script.
func TestSummaryWithoutALog(t *testing.T) {
	for _, test := range []struct{ log, want string }{
		{"\nno end after 1m0s\n", "  came      no end after 1m0s\n"},
		{"WORK=/var\n\n> gocker run true\nPASS\n\n" + leavesBehind + "\ninterface gk-1\nmount x\n", `  came      interface gk-1
            mount x
  expected  all of this to be gone when the script ends
`},
	} {
		if got := summary("gocker run true\n", test.log); got != test.want {
			t.Errorf("%s\nnot:\n%s", got, test.want)
		}
	}
}
