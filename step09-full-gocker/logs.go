package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// stampLayout is RFC 3339 with all nine digits of the nanoseconds, so that lines stand in columns.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// logOptions are the flags of logs.
type logOptions struct {
	follow, stamps bool
	tail           int       // lines; -1 for all
	since, until   time.Time // zero if not given
}

// logsCommand prints what a container has printed.
func logsCommand() *cobra.Command {
	var o logOptions
	var tail, since, until string
	cmd := &cobra.Command{
		Use:               "logs [OPTIONS] CONTAINER",
		Short:             "Show what a container has printed",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.tail, err = strconv.Atoi(tail); err != nil || o.tail < 0 {
				o.tail = -1 // as docker: what is not a number is all
			}
			if o.since, err = parseTime(since, time.Now()); err != nil {
				return fmt.Errorf(`invalid value for "since": %w`, err)
			}
			if o.until, err = parseTime(until, time.Now()); err != nil {
				return fmt.Errorf(`invalid value for "until": %w`, err)
			}
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			return showLog(cmd.Context(), c, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on until the container has ended")
	flags.BoolVarP(&o.stamps, "timestamps", "t", false, "put the time before each line")
	flags.StringVarP(&tail, "tail", "n", "all", "show only so many `lines`, the last ones")
	flags.StringVar(&since, "since", "", "show what was printed after this `time` (2026-01-02T13:23:37Z) or this long ago (42m)")
	flags.StringVar(&until, "until", "", "show what was printed before this `time` or this long ago")
	return cmd
}

// timeLayouts are those of RFC 3339 and what people leave out of it.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
}

// parseTime reads a point in time as docker's users write it: a duration before now, RFC 3339 or a
// part of it, in the local time zone if it has none, or seconds since 1970. It is the zero one if
// text is empty.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && text != "0" {
		return now.Add(-ago), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err == nil && fraction != "" && len(fraction) <= 9 {
		var nanoseconds int64
		nanoseconds, err = strconv.ParseInt((fraction + "00000000")[:9], 10, 64)
		return time.Unix(seconds, nanoseconds), err
	}
	if err != nil || fraction != "" {
		return time.Time{}, fmt.Errorf("failed to parse value as time or duration: %q", text)
	}
	return time.Unix(seconds, 0), nil
}

// showLog prints the log of c: what was stdout to stdout, what was stderr to stderr.
func showLog(ctx context.Context, c *container, o logOptions, stdout, stderr io.Writer) error {
	var end *watch // nil if there is nothing to wait for
	if o.follow && !hasEnded(c) {
		var err error
		if end, err = watchContainer(c, unix.IN_MODIFY); err != nil {
			return err
		}
		defer func() { end.close() }()
	}
	file, err := os.Open(logPath(c))
	if errors.Is(err, os.ErrNotExist) && end == nil {
		return nil // it was never started
	}
	if err != nil {
		return err
	}
	defer file.Close()
	log, printer, err := newLogPrinter(file, o, stdout, stderr)
	if err != nil {
		return err
	}
	for {
		over := end == nil
		if !over {
			// Before the log is read: if it is over, what is in the log is all.
			if over, err = end.over(); err != nil {
				return err
			}
		}
		past, err := printer.printAll(log)
		if err != nil || past {
			return err
		}
		if !over {
			if err := end.wait(ctx); err != nil {
				return err
			}
			continue
		}
		if end == nil || hasEnded(c) {
			return nil
		}
		again, err := watchContainer(c, unix.IN_MODIFY) // it was restarted meanwhile
		if err != nil {
			return err
		}
		end.close()
		end = again
	}
}

// A logPrinter prints records, as they are or line by line.
type logPrinter struct {
	logOptions
	begin [2]place // what is before that in a stream is not printed
	out   [2]*bufio.Writer

	last   int     // the stream that was printed to
	inLine [2]bool // the stream is in the middle of a line
	hidden [2]bool // which is not printed
}

// newLogPrinter returns a printer, and a reader of the log in file from where it has something to
// print.
func newLogPrinter(file *os.File, o logOptions, stdout, stderr io.Writer) (*logReader, *logPrinter, error) {
	log := &logReader{file: file}
	printer := &logPrinter{logOptions: o, out: [2]*bufio.Writer{
		bufio.NewWriterSize(stdout, recordMost), bufio.NewWriterSize(stderr, recordMost)}}
	if o.tail < 0 {
		return log, printer, nil
	}
	mark, size, err := wholeLog(file)
	if err != nil {
		return nil, nil, err
	}
	if printer.begin, err = lastLines(file, mark, size, o.tail); err != nil {
		return nil, nil, err
	}
	log.mark = mark
	log.next = min(printer.begin[0].record, printer.begin[1].record)
	return log, printer, nil
}

// printAll prints what there is to read in log, and tells whether it has come to what is after
// until.
func (p *logPrinter) printAll(log *logReader) (past bool, err error) {
	for {
		r, err := log.read()
		if errors.Is(err, io.EOF) {
			return past, errors.Join(p.out[0].Flush(), p.out[1].Flush())
		}
		if err == nil {
			err = p.print(r)
		}
		if err != nil {
			return past, err
		}
		past = !p.until.IsZero() && r.time.After(p.until)
	}
}

// print prints one record.
func (p *logPrinter) print(r record) error {
	begin := p.begin[r.stream]
	if r.start < begin.record {
		return nil
	}
	if r.start == begin.record {
		r.output = r.output[begin.index:]
	}
	out := p.out[r.stream]
	if r.stream != p.last { // on a terminal they are to stand in their order
		if err := p.out[p.last].Flush(); err != nil {
			return err
		}
		p.last = r.stream
	}
	if !p.stamps && p.since.IsZero() && p.until.IsZero() {
		_, err := out.Write(r.output)
		return err
	}
	for line := range bytes.Lines(r.output) {
		if !p.inLine[r.stream] {
			p.hidden[r.stream] = r.time.Before(p.since) || !p.until.IsZero() && r.time.After(p.until)
		}
		if p.stamps && !p.inLine[r.stream] && !p.hidden[r.stream] {
			fmt.Fprint(out, r.time.UTC().Format(stampLayout), " ") // out keeps an error, for Flush
		}
		if !p.hidden[r.stream] {
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		p.inLine[r.stream] = !bytes.HasSuffix(line, []byte{'\n'})
	}
	return nil
}
