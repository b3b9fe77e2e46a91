package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// imagesDir has HEX/config.json, where HEX is that file's SHA-256. HEX/removed says that the
// user has removed the image, and that a container still needs it.
const imagesDir = storeDir + "/images"

// An image is one that is in the store.
type image struct {
	ID            string // sha256:HEX of its config.json
	dir           string
	ocispec.Image // OCI image-spec, config.md
}

// noImage is the error for a name that no image has. Its text is docker's.
type noImage string

func (n noImage) Error() string { return "No such image: " + string(n) }

var hexDigits = regexp.MustCompile("^[0-9a-f]{1,64}$")

// findImage returns the image that is called name, or whose ID is name or begins with it, with
// sha256: before it or not. Its error for one that is not there is a noImage. An image that was
// removed while a container needs it has no other name than its whole ID.
func findImage(name string) (*image, error) {
	parsed, err := reference.ParseAnyReference(name)
	if err != nil {
		return nil, err
	}
	missing := noImage(reference.FamiliarString(parsed))
	ref, named := parsed.(reference.Named)
	if !named { // a whole ID
		id := digest.Digest(parsed.String())
		return loadImage(id.Encoded(), missing)
	}
	ref = tagOrDigest(ref)
	missing = noImage(reference.FamiliarString(ref))
	target, err := os.Readlink(refLink(ref))
	if err == nil {
		return loadImage(filepath.Base(target), missing)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	prefix := strings.TrimPrefix(name, "sha256:")
	if !hexDigits.MatchString(prefix) {
		return nil, missing
	}
	found, err := filepath.Glob(filepath.Join(imagesDir, prefix+"*"))
	found = slices.DeleteFunc(found, isRemoved)
	if err != nil || len(found) != 1 { // docker does not say which ones it may be
		return nil, missing
	}
	return loadImage(filepath.Base(found[0]), missing)
}

// loadImage returns the image whose ID is sha256:hex, or the error missing.
func loadImage(hex string, missing error) (*image, error) {
	img := &image{ID: "sha256:" + hex, dir: filepath.Join(imagesDir, hex)}
	config, err := img.rawConfig()
	if errors.Is(err, os.ErrNotExist) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(config, &img.Image); err != nil {
		return nil, fmt.Errorf("image %s: %w", img.ID, err)
	}
	return img, nil
}

// rawConfig returns the bytes that img.ID is the digest of.
func (img *image) rawConfig() ([]byte, error) {
	return os.ReadFile(filepath.Join(img.dir, "config.json"))
}

// isRemoved tells whether the image in the directory dir is there for containers only.
func isRemoved(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "removed"))
	return err == nil
}

// listImages returns all images that were not removed, the newest first.
func listImages() ([]*image, error) {
	entries, err := os.ReadDir(imagesDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all []*image
	for _, entry := range entries {
		hex := entry.Name()
		if len(hex) != 64 || isRemoved(filepath.Join(imagesDir, hex)) {
			continue
		}
		img, err := loadImage(hex, os.ErrNotExist)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is just being removed
		}
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	slices.SortFunc(all, func(a, b *image) int { return b.created().Compare(a.created()) })
	return all, nil
}

// created is when the image was made; 1970 if it does not say.
func (img *image) created() time.Time {
	if img.Created == nil {
		return time.Unix(0, 0)
	}
	return *img.Created
}

// names returns the image's names, as users write them: NAME:TAG, and NAME@DIGEST, where DIGEST
// is that of what its registry has: a manifest or an index of several.
func (img *image) names() (tags, digests []string, err error) {
	refs, err := allReferences()
	if err != nil {
		return nil, nil, err
	}
	tags, digests = tagsAndDigests(refs[img.ID])
	return tags, digests, nil
}

// size is the number of bytes in the files of the image's layers, as docker counts them.
func (img *image) size() (size int64, err error) {
	for _, dir := range img.layerDirs() {
		description, err := readLayer(dir)
		if err != nil {
			return 0, err
		}
		size += description.Size
	}
	return size, nil
}

// matches tells whether the image is for platform, which is one like linux/arm64/v8, or "" for any.
func (img *image) matches(platform string) (bool, error) {
	if platform == "" {
		return true, nil
	}
	wanted, err := platforms.Parse(platform)
	if err != nil {
		return false, err
	}
	return platforms.Only(wanted).Match(img.Platform), nil
}

// lockStore locks the store; closing the file unlocks, and so does the end of gocker, whatever
// ends it: flock(2). Who wants to use an image takes the lock, not exclusive, before findImage,
// and holds it until there is something that keeps the image: a container's record or a
// workspace. Who removes something takes it exclusive, and has looked for such things since.
// Nobody holds it for long, waits for a container's lock with it, or takes it twice.
func lockStore(exclusive bool) (*os.File, error) {
	if err := os.MkdirAll(imagesDir, 0o700); err != nil {
		return nil, err
	}
	// Only root may look into the store: programs in it run as their owner, whoever starts them.
	if err := os.Chmod(storeDir, 0o700); err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	return lockDir(imagesDir, how)
}

// lockDir opens the directory dir and waits until it is locked as flock(2) says of how.
func lockDir(dir string, how int) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), how)
		if err == nil {
			return file, nil
		}
		if err != unix.EINTR {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// failsWith1 is what a command executes, of which docker's exit status is 1 when it fails, and
// not 125. A signal that would end it makes the context of run done instead, so that nothing is
// left, but if run does not end then, since it waits for somebody else to read or write, gocker
// does.
func failsWith1(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		signals := catchSignals()
		done := make(chan error, 1)
		go func() { done <- run(signals, args) }()
		var err error
		select {
		case err = <-done:
		case <-signals.Done():
			select {
			case err = <-done:
			case <-time.After(5 * time.Second):
				err = context.Cause(signals)
			}
		}
		if err != nil && signals.Err() != nil {
			return context.Cause(signals)
		}
		if err != nil {
			return failure{err, 1}
		}
		return nil
	}
}
