package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeLog appends to the log in the file path what each text says after its first letter: o for
// stdout, e for stderr.
func writeLog(t *testing.T, path string, texts ...string) {
	t.Helper()
	log, err := openLogWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	log.users = 1
	defer (&logStream{log: log}).Close()
	for _, text := range texts {
		stream := &logStream{log: log}
		if text[0] == 'e' {
			stream.stream = 1
		}
		if n, err := stream.Write([]byte(text[1:])); err != nil || n != len(text)-1 {
			t.Fatal(n, err)
		}
	}
}

// readLog returns what is printed of the log in path, the streams apart.
func readLog(t *testing.T, path string, tail int) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	file, e := os.Open(path)
	if e != nil {
		t.Fatal(e)
	}
	defer file.Close()
	log, printer, e := newLogPrinter(file, logOptions{tail: tail}, &out, &err)
	if e == nil {
		_, e = printer.printAll(log)
	}
	if e != nil {
		t.Fatal(e)
	}
	return out.String(), err.String()
}

func TestLogKeepsTheStreamsApartAndAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	large := strings.Repeat("0123456789abcde\n", 100_000) // many records
	writeLog(t, path, "oone\n", "eoops\n", "otwo, ")
	writeLog(t, path, "othree\n", "o"+large)
	out, err := readLog(t, path, -1)
	if out != "one\ntwo, three\n"+large || err != "oops\n" {
		t.Errorf("%d bytes, %q", len(out), err)
	}
}

func TestTornRecordIsSkippedAndHidesNothing(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "log")
	writeLog(t, whole, "oone\n", "otwo\n")
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	junk := map[string][]byte{"": nil, "zeros": make([]byte, 300_000)}
	for cut := len(content) / 2; cut < len(content); cut++ {
		for name, tail := range junk {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, append(bytes.Clone(content[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "" {
				if out, _ := readLog(t, path, -1); out != "one\n" {
					t.Errorf("cut at %d: %q", cut, out)
				}
			}
			writeLog(t, path, "othree\n")
			for _, n := range []int{-1, 5} {
				out, _ := readLog(t, path, n)
				// Zeros in place of an output's end are an output.
				if name == "" && out != "one\nthree\n" || !strings.HasSuffix(out, "three\n") {
					t.Errorf("cut at %d, %s after it: %q", cut, name, out)
				}
			}
		}
	}
}

func TestLogIsReadWhileARecordGrows(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir+"/whole", "oone\n", "etwo\n")
	content, _ := os.ReadFile(dir + "/whole")
	file, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log := &logReader{file: file}
	var got []string
	for i := range content {
		if _, err := file.Write(content[i : i+1]); err != nil {
			t.Fatal(err)
		}
		r, err := log.read()
		if err == nil {
			got = append(got, string(r.output))
		} else if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(got) != "[one\n two\n]" {
		t.Errorf("%q", got)
	}
}

// lastByHand is lastLines in the plainest way: it splits all of the output into lines.
func lastByHand(texts []string, n int) [2]string {
	type line struct {
		stream, end int
		text        string
	}
	var lines []line
	var open [2]*line
	at := 0
	for _, text := range texts {
		stream := strings.IndexByte("oe", text[0])
		for _, b := range []byte(text[1:]) {
			if open[stream] == nil {
				open[stream] = &line{stream: stream}
			}
			open[stream].text += string(b)
			open[stream].end = at
			at++
			if b == '\n' {
				lines = append(lines, *open[stream])
				open[stream] = nil
			}
		}
	}
	for _, l := range open {
		if l != nil {
			lines = append(lines, *l)
		}
	}
	var shown [2]string
	for _, l := range lines {
		later := 0
		for _, other := range lines {
			if other.end > l.end {
				later++
			}
		}
		if later < n {
			shown[l.stream] += l.text
		}
	}
	return shown
}

func TestTailShowsTheLastLinesOfBothStreams(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for try := range 300 {
		var texts []string
		for range random.IntN(12) {
			text := []byte{"oe"[random.IntN(2)]}
			for range random.IntN(8) {
				text = append(text, "ab\n"[random.IntN(3)])
			}
			texts = append(texts, string(text))
		}
		path := filepath.Join(t.TempDir(), "log")
		writeLog(t, path, texts...)
		for n := range 8 {
			out, err := readLog(t, path, n)
			want := lastByHand(texts, n)
			if out != want[0] || err != want[1] {
				t.Fatalf("try %d, %d lines of %q: %q %q, not %q", try, n, texts, out, err, want)
			}
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	local := time.Date(2025, 12, 31, 0, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"":                          {},
		"1h30m":                     now.Add(-90 * time.Minute),
		"2026-01-02T03:04:05Z":      now,
		"2026-01-02T04:04:05+01:00": now,
		"2026-01-02T03:04:05.5Z":    now.Add(time.Second / 2),
		"2025-12-31":                local,
		"2025-12-31T00:00":          local,
		"2025-12-31T00:00:00":       local,
		"1767323045":                now,
		"1767323045.25":             now.Add(time.Second / 4),
		"0":                         time.Unix(0, 0),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v, not %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "2026-13-01", "1.x", "-"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func BenchmarkLogWrite(b *testing.B) {
	log, err := openLogWriter(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	stream := &logStream{log: log}
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := stream.Write(block); err != nil {
			b.Fatal(err)
		}
		if log.size > 1<<30 {
			log.file.Truncate(0)
			log.size = 0
		}
	}
}
