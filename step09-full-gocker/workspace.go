package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// partialDir has the workspaces.
const partialDir = storeDir + "/workspaces"

// A workspace is a directory in partialDir in which one gocker makes what is to go into the
// store, and keeps what goes out of it. It is locked for as long as it is in use: flock(2).
// Layers of an image whose configuration is in it, as HEX.json, are not removed.
type workspace struct {
	dir  string
	lock *os.File
}

// newWorkspace makes a workspace.
func newWorkspace() (*workspace, error) {
	if err := removeDead(); err != nil {
		return nil, err
	}
	store, err := lockStore(false) // so that nobody takes it for a dead one before we have locked it
	if err != nil {
		return nil, err
	}
	defer store.Close()
	dir, err := os.MkdirTemp(partialDir, "")
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dir, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &workspace{dir, lock}, nil
}

// removeDead removes the workspaces of gockers that were killed, unless the store is in use just
// now: then the next one does.
func removeDead() error {
	if err := os.MkdirAll(partialDir, 0o700); err != nil {
		return err
	}
	store, err := lockDir(imagesDir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil
	}
	defer store.Close()
	entries, err := os.ReadDir(partialDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(partialDir, entry.Name())
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // it is in use
		}
		err = removeTree(dir)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// close removes the workspace and all that is still in it.
func (w *workspace) close() error {
	defer w.lock.Close()
	return removeTree(w.dir)
}

// keep sees to it that the layers of the image with this configuration that are in the store stay
// there.
func (w *workspace) keep(config []byte) error {
	store, err := lockStore(false)
	if err != nil {
		return err
	}
	defer store.Close()
	file := filepath.Join(w.dir, digest.FromBytes(config).Encoded()+".json")
	return os.WriteFile(file, config, 0o600)
}

// parseConfig reads the configuration of an image from who knows where.
func parseConfig(config []byte) (*image, error) {
	id := digest.FromBytes(config)
	img := &image{ID: id.String(), dir: filepath.Join(imagesDir, id.Encoded())}
	if err := json.Unmarshal(config, &img.Image); err != nil {
		return nil, fmt.Errorf("configuration of the image: %w", err)
	}
	if img.RootFS.Type != "layers" {
		return nil, errors.New("configuration of the image: it has no layers")
	}
	for _, diffID := range img.RootFS.DiffIDs {
		if err := diffID.Validate(); err != nil || diffID.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("configuration of the image: %q is no SHA-256 of a layer", diffID)
		}
	}
	if img.OS != "" && img.OS != "linux" {
		return nil, fmt.Errorf("image operating system %q cannot be used on this platform", img.OS)
	}
	return img, nil
}

// addImage puts the image with this configuration into the store, gives it the names refs, and
// returns it. fetch returns the path of the file that has layer i, compressed or not; it is
// called for the layers that are not in the store, the lowest first. unpacked is called after
// each of them.
//
// Nothing has its final name before all that is on the store's file system is on the disk,
// syncfs(2): a power cut could otherwise leave a tree of empty files.
func (w *workspace) addImage(ctx context.Context, config []byte, refs []reference.Named,
	fetch func(i int) (string, error), unpacked func(i int)) (*image, error) {
	img, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	if err := w.keep(config); err != nil {
		return nil, err
	}
	work := filepath.Join(w.dir, "image")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, err
	}
	defer removeTree(work)
	dirs := img.layerDirs()
	var added []partialLayer
	var below []string
	for i, dir := range dirs {
		if layerStored(dir) {
			below = append(below, dir)
			continue
		}
		blob, err := fetch(i)
		if err != nil {
			return nil, err
		}
		layer := partialLayer{filepath.Join(work, strconv.Itoa(i)), dir}
		if err := layer.unpack(ctx, blob, img.RootFS.DiffIDs[i], below); err != nil {
			return nil, fmt.Errorf("layer %s: %w", img.RootFS.DiffIDs[i], err)
		}
		added = append(added, layer)
		below = append(below, layer.upper())
		unpacked(i)
	}
	partial := filepath.Join(work, "image")
	if err := os.Mkdir(partial, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(partial, "config.json"), config, 0o644); err != nil {
		return nil, err
	}
	if err := unix.Syncfs(int(w.lock.Fd())); err != nil {
		return nil, fmt.Errorf("syncfs: %w", err)
	}
	store, err := lockStore(false)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	for _, layer := range added {
		if err := layer.commit(); err != nil {
			return nil, err
		}
	}
	if err := renameNew(partial, img.dir); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(img.dir, "removed")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, ref := range refs {
		if err := w.name(img, ref); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// renameNew renames a directory, unless another one with the same content has the name already.
func renameNew(partial, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err := os.Rename(partial, dir)
	if errors.Is(err, os.ErrExist) { // ENOTEMPTY and EEXIST
		return nil
	}
	return err
}

// name makes ref a name of img, and of no other image, in one go. The caller has locked the store.
func (w *workspace) name(img *image, ref reference.Named) error {
	link, partial := refLink(ref), filepath.Join(w.dir, "link")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(img.dir, partial); err != nil {
		return err
	}
	return os.Rename(partial, link)
}

// configsIn returns what the configuration files say that pattern, filepath.Glob, means.
func configsIn(pattern string) ([]ocispec.Image, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var configs []ocispec.Image
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // a workspace that is just being closed
		}
		if err != nil {
			return nil, err
		}
		var config ocispec.Image
		if err := json.Unmarshal(content, &config); err != nil {
			continue // one that was refused, or is just being written
		}
		configs = append(configs, config)
	}
	return configs, nil
}
