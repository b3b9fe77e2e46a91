// Package stepdiff measures what a step changes of the step before it.
//
// What counts is code: the lines of all .go files, but no comments, no blank lines and no
// tests. A line that changes or moves counts as one removed and one added, as in a diff.
package stepdiff

import (
	"bytes"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A Diff is what one step changes of another.
type Diff struct {
	Added, Removed     int      // lines of code
	New, Changed, Gone []string // .go files without tests; one of which only comments change is changed, too
}

// Compare compares the steps in the directories before and after. If before is "", there
// is none, and everything is new.
func Compare(before, after string) (Diff, error) {
	var diff Diff
	old, err := sources(before)
	if err != nil {
		return diff, err
	}
	now, err := sources(after)
	if err != nil {
		return diff, err
	}
	for name, text := range now {
		if was, ok := old[name]; !ok {
			diff.New = append(diff.New, name)
		} else if !bytes.Equal(was, text) {
			diff.Changed = append(diff.Changed, name)
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			diff.Gone = append(diff.Gone, name)
		}
	}
	slices.Sort(diff.New)
	slices.Sort(diff.Changed)
	slices.Sort(diff.Gone)
	diff.Added, diff.Removed, err = countLines(old, now)
	return diff, err
}

// sources returns the .go files in dir by their names.
func sources(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	if dir == "" {
		return files, nil
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no .go files in %s", dir))
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(name)] = text
	}
	return files, nil
}

// countLines lets git compare what is code in old and now.
func countLines(old, now map[string][]byte) (added, removed int, err error) {
	work, err := os.MkdirTemp("", "stepdiff-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(work)
	for dir, files := range map[string]map[string][]byte{"old": old, "now": now} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			return 0, 0, err
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(work, dir, name), code(text), 0o644); err != nil {
				return 0, 0, err
			}
		}
	}
	cmd := exec.Command("git", "diff", "--no-index", "--numstat", "--no-renames", "--no-ext-diff", "old", "now")
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) { // 1: they differ
		return 0, 0, fmt.Errorf("git diff: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		var plus, minus int
		if _, err := fmt.Sscan(line, &plus, &minus); err != nil {
			return 0, 0, fmt.Errorf("git diff --numstat prints %q: %w", line, err)
		}
		added += plus
		removed += minus
	}
	return added, removed, nil
}

// code returns the text of a Go file without its comments and blank lines.
func code(text []byte) []byte {
	text = bytes.Clone(text)
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, scanner.ScanComments)
	for {
		pos, tok, comment := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok != token.COMMENT {
			continue
		}
		start := file.Offset(pos)
		for i := start; i < start+len(comment); i++ {
			if text[i] != '\n' {
				text[i] = ' '
			}
		}
	}
	var lines []byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, " \t\r\n"); len(line) > 0 {
			lines = append(append(lines, line...), '\n')
		}
	}
	return lines
}
