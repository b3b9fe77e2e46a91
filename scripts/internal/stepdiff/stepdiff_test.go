package stepdiff

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestCodeIsWithoutCommentsAndBlankLines(t *testing.T) {
	text := "// Package x\npackage x\n\nvar a = 1 // one\n/* a\n   b */\nvar b = /* two */ 2\n\n" +
		"const c = `\n// no comment\n`\n//go:embed x\nvar d string\n"
	want := "package x\nvar a = 1\nvar b =           2\nconst c = `\n// no comment\n`\nvar d string\n"
	if got := string(code([]byte(text))); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

func TestCompare(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range dirs {
		write(dir, "same.go", "package x\nvar same = 1\n")
	}
	write(dirs[0], "run.go", "package x\n// old\nvar a, b = 1, 2\n")
	write(dirs[1], "run.go", "package x\n// new\nvar a, b = 1, 3\n")
	write(dirs[0], "words.go", "package x\n// old\n")
	write(dirs[1], "words.go", "package x\n// new\n")
	write(dirs[0], "gone.go", "package x\nvar gone = 1\n")
	write(dirs[1], "new.go", "package x\n\n// It is new.\nvar now = 1\n")
	write(dirs[1], "new_test.go", "package x\nvar test = 1\n")
	write(dirs[1], "go.mod", "module x\n")
	for _, test := range []struct {
		before, after string
		want          string
	}{
		{dirs[0], dirs[1], "{3 3 [new.go] [run.go words.go] [gone.go]}"},
		{dirs[0], dirs[0], "{0 0 [] [] []}"},
		{"", dirs[0], "{7 0 [gone.go run.go same.go words.go] [] []}"},
	} {
		got, err := Compare(test.before, test.after)
		if err != nil || fmt.Sprint(got) != test.want {
			t.Errorf("%v, %v, not %s", got, err, test.want)
		}
	}
	if _, err := Compare(dirs[0], t.TempDir()); err == nil {
		t.Error("a directory without code is no error")
	}
}

// budget is how many lines of code a step may add. Whoever reads the steps in their
// order reads each of these in one go. The aim is 200 for 02, 03, 05 and 08, and 300 for
// 04, 06 and 07; where a step is over that, its number here may only become smaller.
var budget = map[string]int{
	"02": 200, "03": 200, "04": 366, "05": 226, "06": 300, "07": 433, "08": 200,
}

const (
	newBudget     = 2 // files
	changedBudget = 3
)

// TestBudget compares every step with the one before it.
func TestBudget(t *testing.T) {
	steps := steps(t)
	for i, step := range steps[1:] {
		name := filepath.Base(step)
		t.Run(name, func(t *testing.T) {
			diff, err := Compare(steps[i], step)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("+%d −%d, new %v, changed %v", diff.Added, diff.Removed, diff.New, diff.Changed)
			if most, ok := budget[name[4:6]]; ok && diff.Added > most {
				t.Errorf("adds %d lines of code, more than %d", diff.Added, most)
			}
			if len(diff.New) > newBudget {
				t.Errorf("has %d new files, more than %d: %v", len(diff.New), newBudget, diff.New)
			}
			if changed := append(diff.Changed, diff.Gone...); len(changed) > changedBudget {
				t.Errorf("changes %d files, more than %d: %v", len(changed), changedBudget, changed)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the numbers of lines into README.md")

// row is a line of README's table of steps: all but the last cell, the directory of the
// step, and the last cell, which says how many lines of code it adds and removes.
var row = regexp.MustCompile(`(?m)^(\| \[\d\d [^]]*\]\((step\d\d-[^)]*)\) \|.*\|) ([^|]*) \|$`)

// TestReadmeSaysHowManyLines compares README's table of steps with the steps; with
// -update it writes the numbers there.
func TestReadmeSaysHowManyLines(t *testing.T) {
	steps := steps(t)
	readme := filepath.Join(filepath.Dir(steps[0]), "README.md")
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]string{}
	before := ""
	for _, step := range steps {
		diff, err := Compare(before, step)
		if err != nil {
			t.Fatal(err)
		}
		cell := fmt.Sprintf("+%d −%d", diff.Added, diff.Removed)
		if before == "" {
			cell = fmt.Sprintf("+%d", diff.Added)
		}
		cells[filepath.Base(step)] = cell
		before = step
	}
	found := 0
	updated := row.ReplaceAllStringFunc(string(text), func(line string) string {
		m := row.FindStringSubmatch(line)
		want, ok := cells[m[2]]
		if !ok {
			return line
		}
		found++
		if m[3] != want && !*update {
			t.Errorf("%s: README says %s, but it is %s", m[2], m[3], want)
		}
		return m[1] + " " + want + " |"
	})
	if found != len(steps) {
		t.Fatalf("README's table has %d of %d steps", found, len(steps))
	}
	if *update {
		if err := os.WriteFile(readme, []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if t.Failed() {
		t.Log("this corrects README: go test ./scripts/internal/stepdiff -run Readme -update")
	}
}

// steps returns the directories of the steps in their order.
func steps(t *testing.T) []string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		} else if dir == "/" {
			t.Fatal("no go.work in a directory above")
		}
		dir = filepath.Dir(dir)
	}
	// The ninth is no step from the eighth but an engine.
	steps, err := filepath.Glob(filepath.Join(dir, "step0[1-8]-*"))
	if err != nil || len(steps) < 2 {
		t.Fatalf("no steps in %s: %v", dir, err)
	}
	return steps
}
