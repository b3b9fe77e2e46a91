package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	specs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

const (
	storeDir = "/var/lib/gocker"
	// ID/config.json, where ID is that file's SHA-256, and what unpackImage adds
	imagesDir = storeDir + "/images"
	// HOST/NAME/:TAG and HOST/NAME/:DIGEST, symbolic links to images
	refsDir = storeDir + "/refs"
)

// An image is one that is in the store.
type image struct {
	dir           string
	v1.ConfigFile // OCI image-spec, config.md
}

// findImage returns the image last pulled as reference. If none was, it pulls it.
func findImage(ctx context.Context, reference string) (img image, err error) {
	ref, err := parseReference(reference)
	if err != nil {
		return img, err
	}
	img, err = readImage(ref)
	if errors.Is(err, os.ErrNotExist) || err == nil && !img.unpacked() {
		if err := pull(ctx, reference); err != nil {
			return img, err
		}
		img, err = readImage(ref)
	}
	return img, err
}

// readImage returns the image ref as it is in the store.
func readImage(ref name.Reference) (img image, err error) {
	img.dir, err = filepath.EvalSymlinks(refLink(ref)) // which may soon lead to another one
	if err != nil {
		return img, err
	}
	config, err := os.ReadFile(filepath.Join(img.dir, "config.json"))
	if err != nil {
		return img, err
	}
	err = json.Unmarshal(config, &img.ConfigFile)
	return img, err
}

// command returns what to execute in a container of img. args, if there are any, take the place
// of its Cmd.
func (img image) command(args []string) ([]string, error) {
	if !slices.Contains([]string{"", "0", "root", "0:0", "root:root"}, img.Config.User) {
		return nil, fmt.Errorf("is to run as the user %s, and not as root, which comes with step 09", img.Config.User)
	}
	if len(args) == 0 {
		args = img.Config.Cmd
	}
	argv := slices.Concat(img.Config.Entrypoint, args)
	if len(argv) == 0 {
		return nil, errors.New("names no command; give one: gocker run IMAGE CMD")
	}
	return argv, nil
}

// parseReference reads the name of an image as docker does. A registry on this host needs no TLS.
func parseReference(reference string) (name.Reference, error) {
	var options []name.Option
	rest := reference
	host, repository, _ := strings.Cut(reference, "/")
	if host == "localhost" { // or it would be a user of Docker Hub
		rest = repository
		options = append(options, name.WithDefaultRegistry(host))
	}
	if withoutPort, _, err := net.SplitHostPort(host); err == nil {
		host = withoutPort
	}
	if host == "localhost" || net.ParseIP(strings.Trim(host, "[]")).IsLoopback() {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(rest, options...)
	if err != nil {
		if _, e := name.ParseReference(strings.ToLower(rest), options...); e == nil {
			err = fmt.Errorf("%w: there is no upper case in the name of an image", err)
		}
	}
	return ref, err
}

// refLink is the link in refsDir for ref. The tag is a file of its own, in directories that are the
// parts of the repository's name: all together are longer than the name of one file may be. The
// ":" before the tag tells it from a directory, as no such part begins with one.
func refLink(ref name.Reference) string {
	return filepath.Join(refsDir, ref.Context().Name(), ":"+ref.Identifier())
}

// pull gets the image that its registry calls reference. Of several pulls one works at a time. One
// that fails or is interrupted leaves nothing that is not complete; one that is killed leaves a
// directory that the next one removes.
func pull(ctx context.Context, reference string) error {
	ref, err := parseReference(reference)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(imagesDir, 0o700); err != nil {
		return err
	}
	// Only root may look into the store: programs in it run as their owner, whoever starts them.
	if err := os.Chmod(storeDir, 0o700); err != nil {
		return err
	}
	store, err := lockDir(ctx, imagesDir)
	if err != nil {
		return err
	}
	defer store.Close()
	img, err := findRemote(ctx, ref)
	if err == nil {
		err = addImage(ctx, img, ref, store)
	}
	if ctx.Err() != nil { // whatever a signal has made of it
		return context.Cause(ctx)
	}
	if err != nil { // on one line: some registries answer with a page
		return fmt.Errorf("pull %s: %s", reference, strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}

// findRemote finds ref in its registry. Of an index of images for several platforms, OCI
// image-spec, image-index.md, it takes the image that containerd would.
func findRemote(ctx context.Context, ref name.Reference) (v1.Image, error) {
	descriptor, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(plainTypes{}),
		remote.WithAuthFromKeychain(authn.DefaultKeychain)) // what docker login has stored
	if err != nil {
		return nil, err
	}
	if !descriptor.MediaType.IsIndex() {
		return descriptor.Image()
	}
	index, err := descriptor.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	ours := platforms.Default()
	entries := slices.DeleteFunc(manifest.Manifests, func(entry v1.Descriptor) bool {
		return !entry.MediaType.IsImage() || entry.Platform != nil && !ours.Match(platform(entry.Platform))
	})
	// The best first; what does not say what it is for is not ours, and comes last.
	slices.SortStableFunc(entries, func(a, b v1.Descriptor) int {
		switch {
		case ours.Less(platform(a.Platform), platform(b.Platform)):
			return -1
		case ours.Less(platform(b.Platform), platform(a.Platform)):
			return 1
		}
		return 0
	})
	for _, entry := range entries {
		img, err := index.Image(entry.Digest)
		if err != nil {
			return nil, err
		}
		description, err := img.Manifest()
		if err != nil {
			return nil, err
		}
		if !description.Config.MediaType.IsConfig() {
			continue // it is no image but an artifact, whatever it says of a platform
		}
		config, err := img.ConfigFile()
		if err == nil && ours.Match(platform(config.Platform())) {
			return img, nil
		}
	}
	return nil, fmt.Errorf("no child with platform %s in index %s", platforms.DefaultString(), descriptor.Digest)
}

// platform is p as the OCI image-spec has it.
func platform(p *v1.Platform) specs.Platform {
	if p == nil {
		return specs.Platform{}
	}
	return specs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// plainTypes is how we reach registries. It takes parameters off the content types of their
// answers, which go-containerregistry would not understand.
type plainTypes struct{}

func (plainTypes) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := remote.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil {
		response.Header.Set("Content-Type", mediaType)
	}
	return response, nil
}

// addImage stores img, unless it is in imagesDir already, and makes ref a name of it. Nothing has
// its final name before all that is on the file system of store is on the disk, syncfs(2): a
// power cut could otherwise leave a tree of empty files.
func addImage(ctx context.Context, img v1.Image, ref name.Reference, store *os.File) error {
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	dir, partial := filepath.Join(imagesDir, id.Hex), filepath.Join(imagesDir, "partial")
	defer os.RemoveAll(partial) // nothing is left of it if all goes well
	if !(image{dir, *file}).unpacked() {
		if err := os.RemoveAll(partial); err != nil {
			return err
		}
		if isTerminal(2) {
			defer fmt.Fprint(os.Stderr, "\x1b[K") // instead of the progress that it shows
		}
		if err := unpackImage(ctx, img, file.RootFS.DiffIDs, ref, partial); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(partial, "config.json"), config, 0o644); err != nil {
			return err
		}
		if err := unix.Syncfs(int(store.Fd())); err != nil {
			return fmt.Errorf("syncfs: %w", err)
		}
		if err := os.RemoveAll(dir); err != nil { // what another step has made of the same image
			return err
		}
		if err := os.Rename(partial, dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(refLink(ref)), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(dir, partial); err != nil {
		return err
	}
	return os.Rename(partial, refLink(ref)) // from one image to another in one go
}

// lockDir opens the directory dir and waits until it is locked for us. Closing the file unlocks,
// and so does the end of gocker, whatever ends it: flock(2).
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return file, nil
	}
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(file.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-locked:
		return file, os.NewSyscallError("flock", err)
	case <-ctx.Done(): // gocker ends soon, and the goroutine with it
		return nil, context.Cause(ctx)
	}
}
