package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// An unpacked layer does not say what its archive looked like: in which order, with which
// headers. But the archive's digest is in the configuration of every image that has the layer,
// so that save must write it byte for byte. What is not in the files,
// github.com/vbatts/tar-split notes in this file, a sequence of JSON entries: bytes of the
// archive, or the name of a file whose content comes next.
const splitName = "split.json.gz"

// A splitRecord notes what archive a layer came in.
type splitRecord struct {
	storage.Packer
	file       *os.File
	compressed *gzip.Writer
	done       <-chan error

	length    int64           // of the archive that the entries make, bytes
	files     []storage.Entry // those with content
	ambiguous bool            // two entries have the same name
}

// start returns the archive that stream is, and notes in the file path, while it is read, what
// it is made of.
func (r *splitRecord) start(stream io.Reader, path string) (io.ReadCloser, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	r.file = file
	r.compressed, err = gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	r.Packer = storage.NewJSONPacker(r.compressed)
	reader, done, err := asm.NewInputTarStreamWithDone(stream, r, discard{})
	r.done = done
	return reader, err
}

// finish waits until all is noted.
func (r *splitRecord) finish() error {
	err := <-r.done
	if e := r.compressed.Close(); err == nil {
		err = e
	}
	if e := r.file.Close(); err == nil {
		err = e
	}
	return err
}

// AddEntry is called by tar-split: storage.Packer.
func (r *splitRecord) AddEntry(entry storage.Entry) (int, error) {
	position, err := r.Packer.AddEntry(entry)
	if errors.Is(err, storage.ErrDuplicatePath) {
		r.ambiguous = true
		err = nil
	}
	switch {
	case entry.Type == storage.SegmentType:
		r.length += int64(len(entry.Payload))
	case entry.Size > 0:
		r.length += entry.Size
		r.files = append(r.files, entry)
	}
	return position, err
}

// A discard is where tar-split puts the content of files. We have it elsewhere, and verify it by
// the digest of all.
type discard struct{}

func (discard) Put(name string, content io.Reader) (int64, []byte, error) {
	n, err := io.Copy(io.Discard, content)
	return n, nil, err
}

// exact tells whether the files in the directory upper and the record make the archive, of
// length bytes: every file with content is there under its own name, which no link is part of,
// and no other entry was.
func (r *splitRecord) exact(upper string, length int64) bool {
	if r.ambiguous || r.length != length {
		return false
	}
	root, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for _, entry := range r.files {
		fd, err := unix.Openat2(root, inLayer(entry.GetName()), &how)
		if err != nil {
			return false
		}
		var stat unix.Stat_t
		err = unix.Fstat(fd, &stat)
		unix.Close(fd)
		if err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size != entry.Size {
			return false
		}
	}
	return true
}

// inLayer is the path of an archive's entry in its layer, without the "/" before it.
func inLayer(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// writeArchive writes the archive of the layer in dir to w, and fails in the end if it is not
// the one that the layer was unpacked from.
func writeArchive(w io.Writer, dir string, diffID digest.Digest) error {
	digester := digest.SHA256.Digester()
	w = io.MultiWriter(w, digester.Hash())
	blob, err := openBlob(filepath.Join(archiveDir(dir), "blob"))
	if err == nil {
		defer blob.Close()
		_, err = io.Copy(w, blob)
	} else if errors.Is(err, os.ErrNotExist) {
		err = assemble(w, dir)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	if got := digester.Digest(); got != diffID {
		return fmt.Errorf("layer %s: its files have been changed in %s: their digest is %s", diffID, dir, got)
	}
	return nil
}

// assemble writes the archive that the record of the layer in dir and its files make.
func assemble(w io.Writer, dir string) error {
	file, err := os.Open(filepath.Join(archiveDir(dir), splitName))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("steps 04 to 08 do not keep what save needs: pull the image again")
	}
	if err != nil {
		return err
	}
	defer file.Close()
	record, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for decoder := json.NewDecoder(record); ; {
		var entry storage.Entry
		err := decoder.Decode(&entry)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case entry.Type == storage.SegmentType:
			_, err = w.Write(entry.Payload)
		case entry.Size > 0:
			err = copyFile(w, root, inLayer(entry.GetName()), entry.Size)
		}
		if err != nil {
			return err
		}
	}
}

// copyFile writes the size bytes of the file name in root to w.
func copyFile(w io.Writer, root *os.Root, name string, size int64) error {
	file, err := root.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.CopyN(w, file, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
