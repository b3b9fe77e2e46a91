package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"
)

// layersDir has a directory for every layer, for all images.
const layersDir = storeDir + "/layers"

// layerDirs returns the directories of the layers with these diffIDs, the lowest first. What a
// layer adds depends on what lies below: its name is the chain ID of them all, OCI image-spec,
// config.md.
func layerDirs(diffIDs []v1.Hash) (dirs []string) {
	var chain []digest.Digest
	for _, diffID := range diffIDs {
		chain = append(chain, digest.Digest(diffID.String()))
	}
	for _, chainID := range identity.ChainIDs(chain) {
		dirs = append(dirs, filepath.Join(layersDir, chainID.Encoded()))
	}
	return dirs
}

// unpackImage unpacks those layers of img, which is reference, that are not in layersDir. Unpacked
// they have diffIDs. It works in dir.
func unpackImage(ctx context.Context, img v1.Image, diffIDs []v1.Hash, reference name.Reference, dir string) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(diffIDs) {
		return fmt.Errorf("%d layers, but %d in the configuration", len(layers), len(diffIDs))
	}
	for _, needed := range []string{layersDir, dir} {
		if err := os.MkdirAll(needed, 0o700); err != nil {
			return err
		}
	}
	dirs := layerDirs(diffIDs)
	for i, layer := range layers {
		if _, err := os.Stat(dirs[i]); err == nil {
			continue
		}
		if isTerminal(2) {
			fmt.Fprintf(os.Stderr, "\x1b[K%s: layer %d of %d\r", reference, i+1, len(layers))
		}
		partial := filepath.Join(dir, strconv.Itoa(i))
		if err := addLayer(ctx, layer, diffIDs[i], dirs[:i], partial); err != nil {
			return fmt.Errorf("layer %s: %w", diffIDs[i], err)
		}
		if err := syncAndRename(partial+"/upper", dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// unpacked tells whether all layers of img are there, and img itself.
func (img image) unpacked() bool {
	for _, dir := range append(layerDirs(img.RootFS.DiffIDs), img.dir) {
		if _, err := os.Stat(dir); err != nil {
			return false
		}
	}
	return true
}

// syncAndRename gives a directory its name, when all that is on its file system is on the disk.
func syncAndRename(partial, dir string) error {
	file, err := os.Open(partial)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Syncfs(int(file.Fd())); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return os.Rename(partial, dir)
}

// addLayer unpacks layer over the layers below. overlayfs records its changes in dir/upper. The
// lowest layer lies over nothing, and is unpacked into dir/upper itself.
func addLayer(ctx context.Context, layer v1.Layer, diffID v1.Hash, below []string, dir string) error {
	upper, merged := dir+"/upper", dir+"/merged"
	if len(below) == 0 {
		if err := os.MkdirAll(upper, 0o755); err != nil {
			return err
		}
		return unpackLayer(ctx, layer, diffID, upper)
	}
	return withMounts(func() error {
		if err := mountOverlay(dir, below); err != nil {
			return err
		}
		if err := unpackLayer(ctx, layer, diffID, merged); err != nil {
			return err
		}
		return unix.Unmount(merged, 0)
	})
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
