package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/continuity/fs"
	"github.com/containerd/log"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/readahead"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"
)

const (
	layersDir   = storeDir + "/layers"   // CHAINHEX/, the files of a layer, for all images
	archivesDir = storeDir + "/archives" // CHAINHEX/, what makes the layer's archive of them: split.go
)

// A layerDescription is layer.json in archivesDir/CHAINHEX.
type layerDescription struct {
	DiffID  digest.Digest // the SHA-256 of its tar archive
	Size    int64         // bytes in its files
	TarSize int64         // bytes in the archive
}

// layerDirs are the directories of img's layers, the lowest first. What a layer adds depends on
// what lies below: its name is the chain ID of them all, OCI image-spec, config.md.
func (img *image) layerDirs() (dirs []string) {
	for _, chainID := range chainIDs(img.RootFS.DiffIDs) {
		dirs = append(dirs, filepath.Join(layersDir, chainID.Encoded()))
	}
	return dirs
}

func chainIDs(diffIDs []digest.Digest) []digest.Digest {
	return identity.ChainIDs(append([]digest.Digest(nil), diffIDs...)) // which it overwrites
}

// archiveDir is the directory in archivesDir for the layer in dir.
func archiveDir(dir string) string { return filepath.Join(archivesDir, filepath.Base(dir)) }

// layerStored tells whether the layer in dir is there, with its archive. Steps 04 to 08 keep none.
func layerStored(dir string) bool {
	if _, err := os.Stat(dir); err != nil {
		return false
	}
	_, err := os.Stat(archiveDir(dir))
	return err == nil
}

// readLayer returns the description of the layer in dir, a zero one if step 04 to 08 has stored it.
func readLayer(dir string) (description layerDescription, err error) {
	content, err := os.ReadFile(filepath.Join(archiveDir(dir), "layer.json"))
	if errors.Is(err, os.ErrNotExist) {
		return description, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &description)
	}
	return description, err
}

// A partialLayer is a layer while it is unpacked.
type partialLayer struct {
	dir   string // where: upper/, archive/ and what overlayfs needs
	final string // the directory in layersDir that upper becomes
}

func (l partialLayer) upper() string   { return filepath.Join(l.dir, "upper") }
func (l partialLayer) archive() string { return filepath.Join(l.dir, "archive") }

// commit gives the layer its names. The caller has locked the store.
func (l partialLayer) commit() error {
	if err := renameNew(l.upper(), l.final); err != nil {
		return err
	}
	return renameNew(l.archive(), archiveDir(l.final))
}

// unpack unpacks the layer in the file blob over the layers below, verifies that it is diffID,
// and notes in archive() what makes the same archive again. If that cannot be noted, as there
// are archives that say things twice, or in odd ways, blob itself is kept.
func (l partialLayer) unpack(ctx context.Context, blob string, diffID digest.Digest, below []string) error {
	record := &splitRecord{}
	description, err := l.try(ctx, blob, diffID, below, record)
	if err != nil && ctx.Err() == nil {
		if err := removeTree(l.dir); err != nil {
			return err
		}
		record = nil // it was perhaps this that failed
		description, err = l.try(ctx, blob, diffID, below, nil)
	}
	if err != nil {
		return err
	}
	if record == nil || !record.exact(l.upper(), description.TarSize) {
		if err := os.Link(blob, filepath.Join(l.archive(), "blob")); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(l.archive(), splitName)); err != nil {
			return err
		}
	}
	content, err := json.Marshal(description)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.archive(), "layer.json"), content, 0o600)
}

// try unpacks blob. Over layers below, what it changes overlayfs notes in upper(). The lowest
// layer lies over nothing: it is upper() itself.
func (l partialLayer) try(ctx context.Context, blob string, diffID digest.Digest, below []string,
	record *splitRecord) (description layerDescription, err error) {
	for _, dir := range []string{l.dir, l.upper(), l.archive()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return description, err
		}
	}
	if len(below) == 0 {
		description, _, err = l.apply(ctx, blob, diffID, l.upper(), record)
		return description, err
	}
	err = overLayers(l.dir, below, func(merged string) error {
		var opaque []string
		description, opaque, err = l.apply(ctx, blob, diffID, merged, record)
		if err != nil {
			return err
		}
		return markOpaque(merged, l.upper(), opaque)
	})
	return description, err
}

// apply applies the layer in the file blob to the directory root: OCI image-spec, layer.md. It
// returns the directories of which the layer hides what the layers below have in them.
//
// The archive comes from a stranger. To containerd's package, whatever its names and links say,
// root is "/", and nothing lies above.
func (l partialLayer) apply(ctx context.Context, blob string, diffID digest.Digest, root string,
	record *splitRecord) (description layerDescription, opaque []string, err error) {
	content, err := openBlob(blob)
	if err != nil {
		return description, nil, err
	}
	defer content.Close()
	log.SetLevel("error") // and no warnings about attributes that are not for this file system
	digester := digest.SHA256.Digester()
	counter := &byteCounter{}
	// Decompressing and writing files go on at the same time.
	ahead := readahead.NewReader(io.TeeReader(content, io.MultiWriter(digester.Hash(), counter)))
	defer ahead.Close()
	stream := io.ReadCloser(ahead)
	if record != nil {
		stream, err = record.start(ahead, filepath.Join(l.archive(), splitName))
		if err != nil {
			return description, nil, err
		}
	}
	entry := "" // the one that is being unpacked
	size, err := archive.Apply(ctx, root, stream, archive.WithFilter(func(header *tar.Header) (bool, error) {
		entry = header.Name + ": "
		if name, ok := strings.CutSuffix("/"+header.Name, "/.wh..wh..opq"); ok {
			dir, err := fs.RootPath(root, name)
			if err != nil {
				return false, err
			}
			opaque = append(opaque, dir)
		}
		if header.Typeflag == tar.TypeGNUSparse { // whose holes Go has filled
			header.Typeflag = tar.TypeReg
		}
		// No device has the number 0:0, and overlayfs would take one that has for a deleted file.
		return header.Typeflag != tar.TypeChar || header.Devmajor != 0 || header.Devminor != 0, nil
	}))
	if err == nil {
		_, err = io.Copy(io.Discard, stream) // what follows the archive's end counts for the digest
	}
	stream.Close()
	if record != nil {
		err = errors.Join(err, record.finish())
	}
	if err != nil {
		return description, nil, fmt.Errorf("%s%w", entry, err)
	}
	if got := digester.Digest(); got != diffID {
		return description, nil, fmt.Errorf("the digest of its content is %s", got)
	}
	return layerDescription{diffID, size, counter.n}, opaque, removeAUFS(root)
}

// removeAUFS removes what AUFS, once docker's file system, kept for itself at the top of a layer.
// Hard links could lead there until now.
func removeAUFS(root string) error {
	files, err := filepath.Glob(filepath.Join(root, ".wh..wh.*"))
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	return err
}

// A byteCounter counts what is written to it.
type byteCounter struct{ n int64 }

func (c *byteCounter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// openBlob opens a file and returns what is in it when it is not compressed any more.
func openBlob(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := decompress(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{content, file}, nil
}

// decompress returns what is in the stream when it is not compressed any more. How it is, its first
// bytes say: gzip, RFC 1952; Zstandard, RFC 8878; bzip2.
func decompress(stream io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(stream, 1<<20)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		reader, err := zstd.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		return reader.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(buffered), nil
	}
	return buffered, nil
}

// markOpaque says in upper of the directories dirs, which are paths in merged, that nothing in
// them is from the layers below: a mark instead of as many whiteouts.
func markOpaque(merged, upper string, dirs []string) error {
	for _, dir := range dirs {
		name := strings.TrimPrefix(dir, merged)
		now, err := fs.RootPath(merged, name)
		if err != nil {
			return err
		}
		if now != dir {
			continue // a link has taken its place since, and what that leads to is not meant
		}
		path := upper + name
		err = unix.Lsetxattr(path, "trusted.overlay.opaque", []byte("y"), 0)
		if err != nil && err != unix.ENOENT { // nothing of it was below
			return fmt.Errorf("setxattr %s: %w", path, err)
		}
	}
	return nil
}
