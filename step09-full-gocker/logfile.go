package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A log is a row of records. Each has the bytes that the container's process has written to one of
// its streams, as they came: half a line, or a thousand. Before them stands a header,
// little-endian:
//
//	mark    8 bytes, random, the same in all records of a log
//	time    8 bytes, nanoseconds since 1970
//	stream  4 bytes, 0 for stdout or 1 for stderr
//	length  4 bytes, how many bytes follow
//
// The log can be read from either end, as the mark tells where a record begins. The container
// cannot know its log's mark, and so cannot forge a record.
const (
	recordHeader = 24        // bytes
	recordMost   = 64 << 10  // bytes of output in a record; what a pipe holds, pipe(7)
	logWindow    = 256 << 10 // bytes of a log that are in memory at a time, more than a record has
)

// logPath is the file that has the log of c.
func logPath(c *container) string { return filepath.Join(c.dir(), "log") }

// logMark is what the records of one log begin with.
type logMark [8]byte

// record is one of a log.
type record struct {
	start  int64 // where it is in the log
	time   time.Time
	stream int    // 0 stdout, 1 stderr
	output []byte // good until the next one is read
}

// size is how many bytes of the log the record takes.
func (r record) size() int { return recordHeader + len(r.output) }

// parseRecord returns the record at the beginning of content, if there is a whole one.
func parseRecord(mark logMark, content []byte, start int64) (r record, whole bool) {
	if len(content) < recordHeader || !bytes.HasPrefix(content, mark[:]) {
		return record{}, false
	}
	stream := binary.LittleEndian.Uint32(content[16:])
	length := int64(binary.LittleEndian.Uint32(content[20:]))
	if stream > 1 || length > recordMost || length > int64(len(content)-recordHeader) {
		return record{}, false
	}
	return record{
		start:  start,
		time:   time.Unix(0, int64(binary.LittleEndian.Uint64(content[8:]))),
		stream: int(stream),
		output: content[recordHeader : recordHeader+length],
	}, true
}

// A logWriter appends records to a log. Only one process at a time has one.
type logWriter struct {
	mutex sync.Mutex // between the two streams
	file  *os.File
	mark  logMark
	size  int64 // of the log, in bytes
	users int   // streams that are not closed
}

// A logStream is the end of a log that one stream of the container's is written to.
type logStream struct {
	log    *logWriter
	stream uint32
	close  sync.Once
}

// openLog opens the log of c for what it prints from now on: to one writer, stdout, to the other,
// stderr. They may be written to at the same time. An error of Write, as of a full disk, loses what
// was to be written; the log is then as it was before, and can be written to again.
func openLog(c *container) (stdout, stderr io.WriteCloser, err error) {
	log, err := openLogWriter(logPath(c))
	if err != nil {
		return nil, nil, err
	}
	log.users = 2
	return &logStream{log: log, stream: 0}, &logStream{log: log, stream: 1}, nil
}

// openLogWriter opens the log in the file path, which need not be there, to append to it.
func openLogWriter(path string) (*logWriter, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	mark, size, err := wholeLog(file)
	if err == nil {
		err = file.Truncate(size) // what a writer that was killed has begun
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	if size == 0 {
		rand.Read(mark[:]) // never fails: crypto/rand
	}
	return &logWriter{file: file, mark: mark, size: size}, nil
}

// Write appends output to the log.
func (s *logStream) Write(output []byte) (int, error) {
	written := 0
	for written < len(output) {
		part := output[written:min(len(output), written+recordMost)]
		if err := s.log.append(s.stream, part); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}

// Close closes the log if the other stream is closed, too.
func (s *logStream) Close() (err error) {
	s.close.Do(func() {
		s.log.mutex.Lock()
		defer s.log.mutex.Unlock()
		s.log.users--
		if s.log.users == 0 {
			err = s.log.file.Close()
		}
	})
	return err
}

// append adds one record, by one system call: writev(2).
func (l *logWriter) append(stream uint32, output []byte) error {
	var header [recordHeader]byte
	copy(header[:], l.mark[:])
	binary.LittleEndian.PutUint32(header[16:], stream)
	binary.LittleEndian.PutUint32(header[20:], uint32(len(output)))

	l.mutex.Lock()
	defer l.mutex.Unlock()
	binary.LittleEndian.PutUint64(header[8:], uint64(time.Now().UnixNano()))
	n, err := unix.Writev(int(l.file.Fd()), [][]byte{header[:], output})
	for err == unix.EINTR {
		n, err = unix.Writev(int(l.file.Fd()), [][]byte{header[:], output})
	}
	if err == nil && n == recordHeader+len(output) {
		l.size += int64(n)
		return nil
	}
	if err == nil {
		err = unix.ENOSPC // the usual reason for less than was asked for: write(2)
	}
	err = fmt.Errorf("write %s: %w", l.file.Name(), err)
	return errors.Join(err, l.file.Truncate(l.size)) // half a record would hide what comes after it
}

// wholeLog returns the mark of the log in file and the end of its last whole record, in bytes.
// After that there may be what a write that was cut off has left. If the log is empty, there is no
// mark.
func wholeLog(file *os.File) (mark logMark, end int64, err error) {
	if _, err := file.ReadAt(mark[:], 0); errors.Is(err, io.EOF) {
		return mark, 0, nil
	} else if err != nil {
		return mark, 0, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return mark, 0, err
	}
	content, start, err := newBackReader(file, mark, size).previous()
	if err != nil {
		return mark, 0, err
	}
	last, whole := parseRecord(mark, content, start)
	if !whole {
		return mark, start, nil
	}
	return mark, start + int64(last.size()), nil
}

// A backReader reads a log from its end to its beginning.
type backReader struct {
	file   *os.File
	mark   logMark
	buffer []byte
	window []byte // of buffer: what has been read of the log and not returned
	start  int64  // where in the log that begins
}

// newBackReader returns a reader of what is before end in the log file.
func newBackReader(file *os.File, mark logMark, end int64) *backReader {
	return &backReader{file: file, mark: mark, buffer: make([]byte, logWindow), start: end}
}

// previous returns the log from its last mark to what was returned before, and where that is. After
// the first record it returns io.EOF.
func (b *backReader) previous() (content []byte, start int64, err error) {
	for {
		if i := bytes.LastIndex(b.window, b.mark[:]); i >= 0 {
			content, b.window = b.window[i:], b.window[:i]
			return content, b.start + int64(i), nil
		}
		if b.start == 0 {
			return nil, 0, io.EOF
		}
		if len(b.window) == logWindow { // and no mark in it: only its beginning can be a record's
			b.window = b.window[:recordHeader+recordMost]
		}
		end := b.start + int64(len(b.window))
		b.start = max(0, end-logWindow)
		b.window = b.buffer[:end-b.start]
		if _, err := b.file.ReadAt(b.window, b.start); err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", b.file.Name(), err)
		}
	}
}

// A logReader reads a log from a record on.
type logReader struct {
	file   *os.File
	mark   logMark // not needed if next is 0
	next   int64   // where the next record is
	buffer []byte
	ahead  []byte // of buffer: what has been read from next on
}

// read returns the next record. If there is no whole one, it returns io.EOF; later there may be
// one.
func (l *logReader) read() (record, error) {
	for {
		if r, whole := parseRecord(l.mark, l.ahead, l.next); whole {
			l.next += int64(r.size())
			l.ahead = l.ahead[r.size():]
			return r, nil
		}
		if l.buffer == nil {
			l.buffer = make([]byte, logWindow)
		}
		n, err := l.file.ReadAt(l.buffer, l.next)
		if err != nil && !errors.Is(err, io.EOF) {
			return record{}, fmt.Errorf("read %s: %w", l.file.Name(), err)
		}
		if n <= len(l.ahead) {
			l.ahead = nil // half a record, which may be replaced: read it again
			return record{}, io.EOF
		}
		l.ahead = l.buffer[:n]
		if l.next == 0 {
			copy(l.mark[:], l.ahead)
		}
	}
}

// A place is one in a log: that byte of the output of the record that begins there.
type place struct {
	record int64
	index  int
}

// lastLines returns where, in either stream, the output begins that the last n lines of the log are
// made of. Lines count where they end. The log is read from its end, which is end, no further than
// needed.
func lastLines(file *os.File, mark logMark, end int64, n int) (begin [2]place, err error) {
	log := newBackReader(file, mark, end)
	var seen [2]bool // whether there is output of the stream after here
	searched := -1   // the stream of which only the beginning of a line is looked for, if one is
	for {
		content, start, err := log.previous()
		if errors.Is(err, io.EOF) {
			return begin, nil
		}
		if err != nil {
			return begin, err
		}
		r, whole := parseRecord(mark, content, start)
		if !whole || searched >= 0 && r.stream != searched {
			continue
		}
		if searched >= 0 {
			if i := bytes.LastIndexByte(r.output, '\n'); i >= 0 {
				begin[searched] = place{start, i + 1}
				return begin, nil
			}
			continue
		}
		stop := endOfLine(r.output, &seen[r.stream], &n)
		if stop < 0 {
			continue
		}
		// Here ends the line before the last n ones. The other stream may be in the middle of one.
		begin[r.stream] = place{start, stop + 1}
		other := 1 - r.stream
		if !seen[other] {
			begin[other] = place{start, 0}
			return begin, nil
		}
		searched = other
	}
}

// endOfLine counts n down by the lines that end in output, from the last one, and returns where the
// one after those ends, or -1. If nothing of the stream was seen, its last line ends with it,
// newline or not.
func endOfLine(output []byte, seen *bool, n *int) int {
	for at := len(output); at > 0; {
		end := bytes.LastIndexByte(output[:at], '\n')
		if !*seen {
			*seen = true
			end = at - 1
		}
		if end < 0 || *n == 0 {
			return end
		}
		*n--
		at = end
	}
	return -1
}
