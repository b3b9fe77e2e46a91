package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// summary says in a few lines why a script failed: what was typed, what came and what
// was expected. text is the script, and log what testscript printed while it ran it:
// the environment, and then for every line of the script
//
//	> the line
//	[stdout]
//	...
//	[stderr]
//	...
//	FAIL: FILE:LINE: why
//
// What is not such a log, as that of a script which was killed, is given as it is.
func summary(text, log string) string {
	failed := failLine.FindAllStringSubmatch(log, -1)
	if failed == nil {
		if _, left, found := cutLast(log, leavesBehind); found {
			return section("came", "", cut(nonEmpty(strings.Split(left, "\n")), 6)) +
				section("expected", "", []string{"all of this to be gone when the script ends"})
		}
		return section("came", "", cut(nonEmpty(strings.Split(log, "\n")), 6))
	}
	last := failed[len(failed)-1]
	number, _ := strconv.Atoi(last[1])
	why := last[2]
	lines := strings.Split(text, "\n")
	if number < 1 || number > len(lines) {
		return section("came", "", []string{why})
	}
	check := words(lines[number-1])

	// What is checked is what the last command left.
	typed := number
	for typed > 1 && isCheck(lines[typed-1]) {
		typed--
	}
	output := outputOf(log, lines[typed-1])
	came := cut(output, 4)
	var expected []string
	switch {
	case check.command == "cmp" || check.command == "cmpenv":
		expected = []string{"no difference between " + check.rest + " (- came, + expected):"}
		expected = append(expected, cut(diffIn(log), 4)...)
		came = cut(output, 2)
	case check.not && (check.command == "stdout" || check.command == "stderr"):
		expected = []string{check.command + " not matching " + check.rest}
	case check.command == "stdout" || check.command == "stderr":
		expected = []string{check.command + " matching " + check.rest}
	case check.command == "status":
		status, _, _ := strings.Cut(check.rest, " ")
		expected = []string{not(check.not) + "exit status " + status}
		came = append([]string{why}, came...)
	case check.command == "exec" && len(output) > 0 && exitLine.MatchString(output[len(output)-1]):
		came = append([]string{exitLine.FindStringSubmatch(output[len(output)-1])[1]}, cut(output[:len(output)-1], 4)...)
		expected = []string{not(check.not) + "exit status 0"}
	case check.command == "gocker" || check.command == "exec" || check.command == "as-nobody":
		expected = []string{not(check.not) + "exit status 0"}
		came = append([]string{why}, came...)
	default:
		expected = []string{strings.TrimSpace(lines[number-1])}
		came = append([]string{why}, came...)
	}
	if len(came) == 0 {
		came = []string{"nothing"}
	}
	where := fmt.Sprintf("  (line %d)", typed)
	if typed != number {
		where = fmt.Sprintf("  (line %d, checked in line %d)", typed, number)
	}
	return section("typed", where, []string{asTyped(lines[typed-1], environment(log))}) +
		section("came", "", came) +
		section("expected", "", expected)
}

// failLine is what testscript prints about the line that ended a script.
var failLine = regexp.MustCompile(`(?m)^FAIL: [^:\n]*:(\d+): (.*)$`)

// exitLine is how testscript's exec says how a command ended, after its output.
var exitLine = regexp.MustCompile(`\[((?:exit status|signal).*)\]$`)

// A line of a script, taken apart.
type scriptLine struct {
	not           bool // begins with !
	command, rest string
}

func words(line string) scriptLine {
	var l scriptLine
	line = strings.TrimSpace(line)
	line, l.not = strings.CutPrefix(line, "! ")
	l.command, l.rest, _ = strings.Cut(strings.TrimSpace(line), " ")
	return l
}

// isCheck tells whether line looks at what came of an earlier line.
func isCheck(line string) bool {
	checks := []string{"", "#", "stdout", "stderr", "cmp", "cmpenv", "grep", "exists", "cp"}
	return slices.Contains(checks, words(line).command)
}

// outputOf returns what is in log between the last line that says that line is run, and
// the next of that kind.
func outputOf(log, line string) []string {
	_, after, found := cutLast(log, "\n> "+line+"\n")
	if !found {
		return nil
	}
	var output []string
	stream := ""
	for text := range strings.Lines(after) {
		text = strings.TrimSuffix(text, "\n")
		switch {
		case text == "[stdout]" || text == "[stderr]":
			stream = strings.Trim(text, "[]")
		case strings.HasPrefix(text, "> ") || failLine.MatchString(text):
			return output
		case text == "":
		case stream == "" || exitLine.MatchString(text):
			output = append(output, text)
		default:
			output = append(output, stream+": "+text)
		}
	}
	return output
}

// diffIn returns the last diff in log, without its heading.
func diffIn(log string) []string {
	_, diff, _ := cutLast(log, "\n@@ ")
	var lines []string
	for i, line := range strings.Split(diff, "\n") {
		switch {
		case i == 0: // where in the file it is
		case strings.HasPrefix(line, "FAIL: "):
			return lines
		case strings.HasPrefix(line, "-"), strings.HasPrefix(line, "+"):
			lines = append(lines, line)
		}
	}
	return lines
}

// environment returns the variables that the log begins with.
func environment(log string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(log) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			break
		}
		env[name] = value
	}
	return env
}

// asTyped is line as a user would type it: without testscript's words around the
// command, and with the values of its variables, which are not expanded in quotes.
func asTyped(line string, env map[string]string) string {
	l := words(line)
	switch l.command {
	case "exec":
		line = l.rest
	case "status":
		_, line, _ = strings.Cut(l.rest, " ")
	default:
		line = l.command + " " + l.rest
	}
	parts := strings.Split(line, "'")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = os.Expand(parts[i], func(name string) string { return env[name] })
		parts[i] = strings.ReplaceAll(parts[i], "  ", " ") // a variable that is empty
	}
	return strings.TrimSpace(strings.Join(parts, "'"))
}

func not(negated bool) string {
	if negated {
		return "not "
	}
	return ""
}

// section formats lines under a heading, with a remark after the first.
func section(heading, remark string, lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			heading, remark = "", ""
		}
		fmt.Fprintf(&b, "  %-9s %s%s\n", heading, shorten(line), remark)
	}
	return b.String()
}

// cut returns at most n lines, and says where there are more.
func cut(lines []string, n int) []string {
	if len(lines) <= n {
		return lines
	}
	return append(slices.Clone(lines[:n-1]), fmt.Sprintf("… and %d lines more", len(lines)-n+1))
}

// shorten makes a line that no terminal has the width for one that it has.
func shorten(line string) string {
	const width = 140
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:width-1]) + "…"
}

func nonEmpty(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "" })
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
