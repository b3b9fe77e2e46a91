package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// A step is one of the tutorial's programs.
type step struct {
	number int
	dir    string
}

// findSteps returns the steps of the repository root in their order.
func findSteps(root string) ([]step, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "step[0-9][0-9]-*"))
	if err != nil || len(dirs) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no steps in %s", root))
	}
	var steps []step
	for _, dir := range dirs {
		number, err := strconv.Atoi(filepath.Base(dir)[4:6])
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{number, dir})
	}
	return steps, nil
}

// findStep returns the step with the number, which is given in decimal.
func findStep(root, number string) (step, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return step{}, fmt.Errorf("%q is not the number of a step", number)
	}
	steps, err := findSteps(root)
	if err != nil {
		return step{}, err
	}
	for _, s := range steps {
		if s.number == n {
			return s, nil
		}
	}
	return step{}, fmt.Errorf("there is no step %02d", n)
}

// build builds the program in dir as bin/gocker, as its readers would. A directory
// without Go code may have a gocker ready in it, built by whatever its author likes.
func build(dir, bin string) error {
	target := filepath.Join(bin, "gocker")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); errors.Is(err, fs.ErrNotExist) {
		program, err := filepath.Abs(filepath.Join(dir, "gocker"))
		if err != nil {
			return err
		}
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("%s has neither a go.mod nor a program gocker", dir)
		}
		return os.Symlink(program, target)
	}
	cmd := exec.Command("go", "build", "-o", target, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", dir, err, out)
	}
	return nil
}

// testdata has a directory for each step, NN-name, with the scripts that it adds.
//
//go:embed testdata
var testdata embed.FS

// untilLine is the last step that a script holds for, where a later one does
// better than what it says.
var untilLine = regexp.MustCompile(`(?m)^# until step (\d\d)\b`)

// scriptsOf returns the scripts that step number adds, as paths in testdata.
func scriptsOf(number int) ([]string, error) {
	return fs.Glob(testdata, fmt.Sprintf("testdata/%02d-*/*.txtar", number))
}

// engineStep is the step whose program is no step any more but an engine: it does what docker does,
// and its scripts say all of that.
const engineStep = 9

// scriptsFor returns all the scripts that step number must pass: its own, and
// those of the steps before that say nothing else.
func scriptsFor(number int) ([]string, error) {
	var scripts []string
	first := 1
	if number == engineStep {
		first = engineStep
	}
	for n := first; n <= number; n++ {
		added, err := scriptsOf(n)
		if err != nil {
			return nil, err
		}
		for _, script := range added {
			text, err := testdata.ReadFile(script)
			if err != nil {
				return nil, err
			}
			if m := untilLine.FindSubmatch(text); m != nil && string(m[1]) < fmt.Sprintf("%02d", number) {
				continue
			}
			scripts = append(scripts, script)
		}
	}
	if len(scripts) == 0 {
		return nil, fmt.Errorf("no scripts for step %02d", number)
	}
	return scripts, nil
}

// withTitle returns those of the scripts that have text in their titles. Only letters and
// digits count, and not their case, so that words may be written with spaces, hyphens or
// nothing between them, and a title as check prints it.
func withTitle(scripts []string, text string) []string {
	var found []string
	for _, script := range scripts {
		if strings.Contains(lettersAndDigits(title(script)), lettersAndDigits(text)) {
			found = append(found, script)
		}
	}
	return found
}

func lettersAndDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// title is the name of a script as it is read: a sentence.
func title(script string) string {
	dir, file := path.Split(script)
	return path.Base(dir)[:2] + "/" + strings.TrimSuffix(file, ".txtar")
}

func titles(scripts []string) []string {
	var all []string
	for _, script := range scripts {
		all = append(all, title(script))
	}
	return all
}
