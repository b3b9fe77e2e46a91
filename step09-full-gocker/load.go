package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func loadCommand() *cobra.Command {
	var input string
	command := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load images from an archive of docker save, podman save or skopeo",
		Args:  cobra.NoArgs,
		RunE: failsWith1(func(ctx context.Context, args []string) error {
			file := os.Stdin
			if input != "" {
				var err error
				file, err = os.Open(input)
				if err != nil {
					return err
				}
				defer file.Close()
			} else if term.IsTerminal(int(file.Fd())) {
				return errors.New("requested load from stdin, but stdin is empty")
			}
			return loadImages(ctx, file)
		}),
	}
	command.Flags().StringVarP(&input, "input", "i", "", "read from this file instead of stdin")
	command.Flags().BoolP("quiet", "q", false, "as always: show no progress")
	return command
}

// A loading is an archive of images that has been read into a workspace. Its names are names of
// a map, not of files: whatever they say, nothing is written elsewhere.
type loading struct {
	work  *workspace
	files map[string]string // where the files are
	links map[string]string // what links say, as names in the archive
}

// loadImages puts the images in the archive stream into the store, and prints their names.
func loadImages(ctx context.Context, stream io.Reader) (err error) {
	work, err := newWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	l := &loading{work, map[string]string{}, map[string]string{}}
	if err := l.read(ctx, stream); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if l.find("manifest.json") != "" {
		return l.dockerArchive(ctx)
	}
	if l.find("index.json") != "" {
		return l.ociArchive(ctx)
	}
	return errors.New("this is no archive of images: neither manifest.json nor index.json is in it")
}

// blobName is the name of a file in an OCI image layout, image-layout.md, that is named by its
// digest.
var blobName = regexp.MustCompile("^blobs/sha256/[0-9a-f]{64}$")

// read reads the archive. Files of an OCI image layout it puts where they are in one.
func (l *loading) read(ctx context.Context, stream io.Reader) error {
	content, err := decompress(stream)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(l.work.dir, "blobs/sha256"), 0o700); err != nil {
		return err
	}
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := inLayer(header.Name)
		switch header.Typeflag {
		case tar.TypeSymlink:
			l.links[name] = inLayer(path.Join(path.Dir(name), header.Linkname))
		case tar.TypeLink:
			l.links[name] = inLayer(header.Linkname)
		case tar.TypeReg:
			file := "file-" + strconv.Itoa(len(l.files))
			if name == "index.json" || name == "oci-layout" || blobName.MatchString(name) {
				file = name
			}
			if err := l.write(ctx, name, filepath.Join(l.work.dir, file), archive); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
}

// write writes the content of the archive's file name to the file path. A blob must be what its
// name says.
func (l *loading) write(ctx context.Context, name, path string, content io.Reader) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	digester := digest.SHA256.Digester()
	_, err = io.Copy(io.MultiWriter(file, digester.Hash()), untilDone{ctx, content})
	if err != nil {
		return err
	}
	if got := digester.Digest(); blobName.MatchString(name) && got.Encoded() != filepath.Base(name) {
		return fmt.Errorf("the digest of its content is %s", got)
	}
	l.files[name] = path
	return nil
}

// untilDone is a reader that fails when its context is done.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(p)
}

// find returns the file that has the content of name in the archive, or "".
func (l *loading) find(name string) string {
	name = inLayer(name)
	for range 10 { // links to links
		target, ok := l.links[name]
		if !ok {
			break
		}
		name = target
	}
	return l.files[name]
}

// document returns a small file of the archive.
func (l *loading) document(name string) ([]byte, error) {
	const limit = 16 << 20
	path := l.find(name)
	if path == "" {
		return nil, fmt.Errorf("there is no %q in the archive", name)
	}
	stat, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if stat.Size() > limit {
		return nil, fmt.Errorf("%q in the archive is larger than %d bytes", name, limit)
	}
	return os.ReadFile(path)
}

// A dockerImage is an element of manifest.json in an archive of docker save.
type dockerImage struct {
	Config   string   // names of files in the archive
	RepoTags []string // NAME:TAG
	Layers   []string // the lowest first
}

// dockerArchive loads what docker save writes, podman and skopeo as well.
func (l *loading) dockerArchive(ctx context.Context) error {
	content, err := l.document("manifest.json")
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := json.Unmarshal(content, &images); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	for _, one := range images {
		config, err := l.document(one.Config)
		if err != nil {
			return err
		}
		var refs []reference.Named
		for _, tag := range one.RepoTags {
			ref, err := reference.ParseNormalizedNamed(tag)
			if err != nil {
				return fmt.Errorf("manifest.json: %q: %w", tag, err)
			}
			refs = append(refs, tagOrDigest(ref))
		}
		var layers []string
		for _, name := range one.Layers {
			layer := l.find(name)
			if layer == "" {
				return fmt.Errorf("manifest.json: there is no %q in the archive", name)
			}
			layers = append(layers, layer)
		}
		if err := l.add(ctx, config, refs, layers); err != nil {
			return err
		}
	}
	return nil
}

// ociArchive loads an OCI image layout, image-layout.md.
func (l *loading) ociArchive(ctx context.Context) error {
	for _, name := range []string{"index.json", "oci-layout"} {
		if _, err := l.document(name); err != nil {
			return err
		}
	}
	index, err := layout.ImageIndexFromPath(l.work.dir)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	for _, entry := range manifest.Manifests {
		img, err := l.ociImage(index, entry)
		if err != nil {
			return err
		}
		refs, err := ociNames(entry)
		if err != nil {
			return err
		}
		config, err := img.RawConfigFile()
		if err != nil {
			return err
		}
		description, err := img.Manifest()
		if err != nil {
			return err
		}
		var layers []string
		for _, layer := range description.Layers {
			layers = append(layers, l.find("blobs/sha256/"+layer.Digest.Hex))
		}
		if err := l.add(ctx, config, refs, layers); err != nil {
			return err
		}
	}
	return nil
}

// ociImage returns the image that entry of index is, or of the index that it is the one for this
// host.
func (l *loading) ociImage(index v1.ImageIndex, entry v1.Descriptor) (v1.Image, error) {
	if !entry.MediaType.IsIndex() {
		return index.Image(entry.Digest)
	}
	several, err := index.ImageIndex(entry.Digest)
	if err != nil {
		return nil, err
	}
	ours, err := platformMatcher("")
	if err != nil {
		return nil, err
	}
	return chooseImage(several, ours, "")
}

// ociNames is what entry of an index.json says how the image is called: containerd, docker and
// buildkit in an annotation of their own, podman and skopeo in OCI's, annotations.md.
func ociNames(entry v1.Descriptor) ([]reference.Named, error) {
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		text, ok := entry.Annotations[key]
		if !ok {
			continue
		}
		ref, err := reference.ParseNormalizedNamed(text)
		if err != nil {
			return nil, fmt.Errorf("index.json: %q: %w", text, err)
		}
		return []reference.Named{tagOrDigest(ref)}, nil
	}
	return nil, nil
}

// add puts the image with this configuration and these files as layers into the store, and
// prints its names.
func (l *loading) add(ctx context.Context, config []byte, refs []reference.Named, layers []string) error {
	wanted, err := parseConfig(config)
	if err != nil {
		return err
	}
	if len(layers) != len(wanted.RootFS.DiffIDs) {
		return fmt.Errorf("%d layers, but %d in the configuration", len(layers), len(wanted.RootFS.DiffIDs))
	}
	had := map[string]string{}
	for _, ref := range refs {
		if target, err := os.Readlink(refLink(ref)); err == nil {
			had[ref.String()] = "sha256:" + filepath.Base(target)
		}
	}
	fetch := func(i int) (string, error) {
		if layers[i] == "" {
			return "", errors.New("a layer is not in the archive")
		}
		return layers[i], nil
	}
	img, err := l.work.addImage(ctx, config, refs, fetch, func(int) {})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		name := reference.FamiliarString(ref)
		if old := had[ref.String()]; old != "" && old != img.ID {
			fmt.Printf("The image %s already exists, renaming the old one with ID %s to empty string\n", name, old)
		}
		fmt.Println("Loaded image: " + name)
	}
	if len(refs) == 0 {
		fmt.Println("Loaded image ID: " + img.ID)
	}
	return nil
}
