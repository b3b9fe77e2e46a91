package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
)

const (
	imagesDir = storeDir + "/images" // ID/config.json, where ID is the file's SHA-256, and what store adds
	refsDir   = storeDir + "/refs"   // a symbolic link to images/ID for every name that was pulled
)

// findImage returns the directory and the configuration (OCI image-spec,
// config.md) of the image last pulled as reference. If none was, it pulls it.
func findImage(reference string) (dir string, config v1.ConfigFile, err error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", config, err
	}
	dir = refLink(ref)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := pull(reference); err != nil {
			return "", config, err
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	return dir, config, cmp.Or(err, json.Unmarshal(raw, &config))
}

// refLink is the link for ref. Its name is escaped and so has no slash that could
// lead out of refsDir.
func refLink(ref name.Reference) string {
	return filepath.Join(refsDir, url.PathEscape(ref.Name()))
}

// pull gets the image that its registry calls reference. Of several pulls one
// works at a time. One that fails or is interrupted leaves nothing that is not
// complete; one that is killed leaves a directory that the next one removes.
func pull(reference string) error {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return err
	}
	if err := cmp.Or(os.MkdirAll(imagesDir, 0o755), os.MkdirAll(refsDir, 0o755)); err != nil {
		return err
	}
	lock, err := os.Open(imagesDir)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks: flock(2)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("flock %s: %w", imagesDir, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	img, err := remote.Image(ref, remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain), // what docker login has stored
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err == nil {
		err = addImage(img, ref)
	}
	if err != nil { // on one line: some registries answer with a page
		return fmt.Errorf("pull %s: %s", reference, strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}

// addImage stores img, unless it is in imagesDir already, and makes ref a name of
// it. Nothing has its final name before all of it is on disk.
func addImage(img v1.Image, ref name.Reference) error {
	id, err1 := img.ConfigName()
	raw, err2 := img.RawConfigFile()
	config, err3 := img.ConfigFile()
	layers, err4 := img.Layers()
	if err := cmp.Or(err1, err2, err3, err4); err != nil {
		return err
	} else if len(layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("%d layers, but %d in the configuration", len(layers), len(config.RootFS.DiffIDs))
	}
	dir, partial := filepath.Join(imagesDir, id.Hex), filepath.Join(imagesDir, "partial")
	defer os.RemoveAll(partial) // nothing is left of it if all goes well
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err := cmp.Or(os.RemoveAll(partial), os.Mkdir(partial, 0o755),
			// Now, so that what syncs the layers to disk syncs this as well.
			os.WriteFile(filepath.Join(partial, "config.json"), raw, 0o644))
		if err != nil {
			return err
		}
		progress := io.Discard
		if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil {
			progress = os.Stderr
			defer fmt.Fprint(os.Stderr, "\x1b[K") // leaves an empty line
		}
		for i, layer := range layers {
			fmt.Fprintf(progress, "\x1b[K%s: layer %d of %d\r", ref, i+1, len(layers))
			if err := store(layer, config.RootFS.DiffIDs[i], partial); err != nil {
				return fmt.Errorf("layer %s: %w", config.RootFS.DiffIDs[i], err)
			}
		}
		if err := os.Rename(partial, dir); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Join("../images", id.Hex), partial); err != nil {
		return err
	}
	return os.Rename(partial, refLink(ref)) // replaces, atomically, the link to an older image
}
