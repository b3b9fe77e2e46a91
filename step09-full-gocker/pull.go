package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func pullCommand() *cobra.Command {
	var platform string
	var quiet bool
	command := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Download an image from a registry",
		Args:  cobra.ExactArgs(1),
		RunE: failsWith1(func(ctx context.Context, args []string) error {
			ref, err := reference.ParseNormalizedNamed(args[0])
			if err != nil {
				return err
			}
			out := progressTo(os.Stdout, quiet)
			if reference.IsNameOnly(ref) {
				out.line("Using default tag: latest")
			}
			ref = tagOrDigest(ref)
			if _, err := pull(ctx, ref, platform, out); err != nil {
				return err
			}
			fmt.Println(ref)
			return nil
		}),
	}
	command.Flags().StringVar(&platform, "platform", "", "the platform of the image, like linux/arm64/v8")
	command.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the image's name only")
	return command
}

// pullImage gets the image that its registry calls name, for platform if that is not "", and,
// unless quiet, shows on stderr how far it is. The caller has not locked the store, but may do
// so afterwards and find the image.
func pullImage(ctx context.Context, name, platform string, quiet bool) (*image, error) {
	ref, err := parseReference(name)
	if err != nil {
		return nil, err
	}
	return pull(ctx, ref, platform, progressTo(os.Stderr, quiet))
}

// pull gets ref, which has a tag or a digest, from its registry. If it fails or is interrupted,
// it leaves nothing; if it is killed, its workspace, which the next one removes.
func pull(ctx context.Context, ref reference.Named, platform string, out *progress) (*image, error) {
	what := strings.TrimPrefix(strings.TrimPrefix(ref.String(), ref.Name()), ":")
	before, _ := os.Readlink(refLink(ref))
	img, manifest, err := fetchImage(ctx, ref, platform, func() {
		out.line(strings.TrimPrefix(what, "@") + ": Pulling from " + reference.FamiliarName(reference.TrimNamed(ref)))
	}, out)
	out.close()
	if ctx.Err() != nil && err != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, pullError(ref, err)
	}
	out.line("Digest: " + manifest.String())
	if filepath.Base(before) == filepath.Base(img.dir) {
		out.line("Status: Image is up to date for " + reference.FamiliarString(ref))
	} else {
		out.line("Status: Downloaded newer image for " + reference.FamiliarString(ref))
	}
	return img, nil
}

// pullError is err in docker's words where it has some, and on one line: some registries answer
// with a page.
func pullError(ref reference.Named, err error) error {
	var answer *transport.Error
	if errors.As(err, &answer) && len(answer.Errors) > 0 {
		first := answer.Errors[0]
		cause := strings.ToLower(strings.ReplaceAll(string(first.Code), "_", " ")) + ": " + first.Message
		switch first.Code {
		case transport.ManifestUnknownErrorCode:
			return fmt.Errorf("manifest for %s not found: %s", reference.FamiliarString(ref), cause)
		case transport.NameUnknownErrorCode:
			return fmt.Errorf("repository %s not found: %s", reference.FamiliarName(ref), cause)
		case transport.DeniedErrorCode, transport.UnauthorizedErrorCode:
			return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': %s",
				reference.FamiliarName(ref), cause)
		}
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	return fmt.Errorf("pull %s: %s", reference.FamiliarString(ref), text)
}

// fetchImage finds ref in its registry, calls found, and puts it into the store. It returns the
// digest of what ref is there: a manifest, or an index of several.
func fetchImage(ctx context.Context, ref reference.Named, platform string, found func(), out *progress) (
	img *image, manifest digest.Digest, err error) {
	work, err := newWorkspace()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	downloads, ctx := errgroup.WithContext(ctx)
	downloads.SetLimit(3)
	defer func() {
		cancel()
		downloads.Wait() // or they would write on into what is being removed
		if e := work.close(); err == nil {
			err = e
		}
	}()
	remoteImage, hash, err := findRemote(ctx, ref, platform)
	if err != nil {
		return nil, "", err
	}
	found()
	config, err := remoteImage.RawConfigFile()
	if err != nil {
		return nil, "", err
	}
	wanted, err := parseConfig(config)
	if err != nil {
		return nil, "", err
	}
	layers, err := remoteImage.Layers()
	if err != nil {
		return nil, "", err
	}
	dirs := wanted.layerDirs()
	if len(layers) != len(dirs) {
		return nil, "", fmt.Errorf("%d layers, but %d in the configuration", len(layers), len(dirs))
	}
	if err := work.keep(config); err != nil {
		return nil, "", err
	}
	var missing []*download
	byLayer := map[int]*download{}
	for i, layer := range layers {
		hash, err := layer.Digest()
		if err != nil {
			return nil, "", err
		}
		bar := out.layer(hash.Hex[:12])
		if layerStored(dirs[i]) {
			bar.show("Already exists")
			continue
		}
		bar.show("Pulling fs layer")
		one := &download{layer, filepath.Join(work.dir, "layer-"+strconv.Itoa(i)), bar, make(chan struct{})}
		missing = append(missing, one)
		byLayer[i] = one
	}
	started := make(chan struct{})
	go func() { // Go waits while as many are under way as may be
		defer close(started)
		for _, one := range missing {
			downloads.Go(func() error { return one.get(ctx) })
		}
	}()
	defer func() {
		cancel()
		<-started
	}()
	refs := []reference.Named{ref}
	manifest = digest.Digest(hash.String())
	exact, err := reference.WithDigest(reference.TrimNamed(ref), manifest)
	if err != nil {
		return nil, "", err
	}
	if !isDigest(ref) {
		refs = append(refs, exact)
	}
	img, err = work.addImage(ctx, config, refs, func(i int) (string, error) {
		select {
		case <-byLayer[i].done:
			byLayer[i].bar.show("Extracting")
			return byLayer[i].path, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}, func(i int) { byLayer[i].bar.show("Pull complete") })
	return img, manifest, err
}

// A download is a layer on its way into the file path. When done is closed, it is there.
type download struct {
	layer v1.Layer
	path  string
	bar   *bar
	done  chan struct{}
}

// get downloads the layer. A connection that breaks is tried again.
func (d *download) get(ctx context.Context) error {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		err := d.try()
		if err == nil {
			d.bar.show("Download complete")
			close(d.done)
			return nil
		}
		var answer *transport.Error
		if ctx.Err() != nil || attempt == attempts || errors.As(err, &answer) {
			return err
		}
		d.bar.show("Retrying")
	}
}

// try downloads the layer, and verifies what go-containerregistry compares with the manifest:
// its digest and size.
func (d *download) try() error {
	content, err := d.layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	file, err := os.Create(d.path)
	if err != nil {
		return err
	}
	size, _ := d.layer.Size()
	_, err = io.Copy(file, d.bar.count(content, size))
	if e := file.Close(); err == nil {
		err = e
	}
	return err
}
