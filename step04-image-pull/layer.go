package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// unpackImage unpacks the layers of img, which is reference, one over the other into the directory
// rootfs in dir. Unpacked they have diffIDs.
func unpackImage(ctx context.Context, img v1.Image, diffIDs []v1.Hash, reference name.Reference, dir string) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(diffIDs) {
		return fmt.Errorf("%d layers, but %d in the configuration", len(layers), len(diffIDs))
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return err
	}
	for i, layer := range layers {
		if isTerminal(2) {
			fmt.Fprintf(os.Stderr, "\x1b[K%s: layer %d of %d\r", reference, i+1, len(layers))
		}
		if err := unpackLayer(ctx, layer, diffIDs[i], rootfs); err != nil {
			return fmt.Errorf("layer %s: %w", diffIDs[i], err)
		}
	}
	return nil
}

// unpacked tells whether unpackImage has been there.
func (img image) unpacked() bool {
	_, err := os.Stat(filepath.Join(img.dir, "rootfs"))
	return err == nil
}

// unpackLayer applies layer, while it arrives, to the directory root: OCI image-spec, layer.md.
// Its compressed bytes are verified by go-containerregistry, the tar archive in them here: diffID
// is its SHA-256.
//
// The archive comes from a stranger. To containerd's package, whatever its names and links say,
// root is "/", and nothing lies above.
func unpackLayer(ctx context.Context, layer v1.Layer, diffID v1.Hash, root string) error {
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	log.SetLevel("error") // and no warnings about attributes that are not for this file system
	sum := sha256.New()
	stream := io.TeeReader(content, sum)
	entry := "" // the one that is being unpacked
	_, err = archive.Apply(ctx, root, stream, archive.WithFilter(func(header *tar.Header) (bool, error) {
		entry = header.Name + ": "
		if header.Typeflag == tar.TypeGNUSparse { // whose holes Go has filled
			header.Typeflag = tar.TypeReg
		}
		// No device has the number 0:0, and overlayfs would take one that has for a deleted file.
		return header.Typeflag != tar.TypeChar || header.Devmajor != 0 || header.Devminor != 0, nil
	}))
	if err == nil {
		_, err = io.Copy(io.Discard, stream) // what follows the archive's end counts for the digest
	}
	if err != nil {
		return fmt.Errorf("%s%w", entry, err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != diffID.Hex {
		return fmt.Errorf("the digest of its content is sha256:%s", got)
	}
	return removeAUFS(root)
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
