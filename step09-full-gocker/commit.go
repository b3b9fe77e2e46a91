package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/sysx"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

func commitCommand() *cobra.Command {
	var changes []string
	var message, author string
	var pause bool
	command := &cobra.Command{
		Use:   "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Make an image of what a container has changed",
		Args:  cobra.RangeArgs(1, 2),
		RunE: failsWith1(func(ctx context.Context, args []string) error {
			var refs []reference.Named
			if len(args) == 2 {
				ref, err := reference.ParseNormalizedNamed(args[1])
				if err != nil {
					return err
				}
				if _, ok := ref.(reference.Digested); ok {
					return errors.New("refusing to create a tag with a digest reference")
				}
				refs = append(refs, reference.TagNameOnly(ref))
			}
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			img, err := commitContainer(ctx, c, refs, changes, message, author, pause)
			if err != nil {
				return err
			}
			fmt.Println(img.ID)
			return nil
		}),
	}
	flags := command.Flags()
	flags.StringArrayVarP(&changes, "change", "c", nil, "what a Dockerfile would say: "+strings.Join(changeNames, ", "))
	flags.StringVarP(&message, "message", "m", "", "what history shows")
	flags.StringVarP(&author, "author", "a", "", "who has made it")
	flags.BoolVarP(&pause, "pause", "p", true, "pause the container meanwhile")
	return command
}

// commitContainer makes an image of c's and a layer of what c has written, and gives it the
// names refs.
func commitContainer(ctx context.Context, c *container, refs []reference.Named, changes []string,
	message, author string, pause bool) (made *image, err error) {
	work, err := newWorkspace()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	base, err := loadImage(trimAlgorithm(c.ImageID), noImage(c.ImageID))
	if err != nil {
		return nil, err
	}
	rawBase, err := base.rawConfig()
	if err != nil {
		return nil, err
	}
	if err := work.keep(rawBase); err != nil {
		return nil, err
	}
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(rawBase, &config); err != nil {
		return nil, err
	}
	if err := configure(&config.Config, c.Config, changes); err != nil {
		return nil, err
	}
	layer := filepath.Join(work.dir, "layer.tar")
	diffID, empty, err := copyChanges(ctx, c, layer, pause)
	if err != nil {
		return nil, fmt.Errorf("copy what the container has changed: %w", err)
	}
	now := time.Now().UTC()
	config.Created = &now
	config.Author = author
	if !empty {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	config.History = append(config.History, ocispec.History{Created: &now, Author: author, Comment: message,
		CreatedBy: strings.Join(c.Config.Cmd, " "), EmptyLayer: empty})
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	// Only the topmost layer can be missing: keep keeps the others.
	return work.addImage(ctx, raw, refs, func(int) (string, error) { return layer, nil }, func(int) {})
}

// copyChanges writes what c has changed to the file path, as a layer, and tells whether that is
// nothing.
func copyChanges(ctx context.Context, c *container, path string, pause bool) (
	diffID digest.Digest, empty bool, err error) {
	if pause {
		resume, failed := pauseFor(c)
		if failed != nil {
			return "", false, failed
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	return writeLayer(ctx, path, filepath.Join(c.dir(), "upper"))
}

// pauseFor pauses the processes of c, if it runs and is not paused already, until resume is called.
func pauseFor(c *container) (resume func() error, err error) {
	if c.state() != stateRunning {
		return func() error { return nil }, nil
	}
	r, err := runtime.Load(c.ID)
	if err != nil {
		return nil, err
	}
	return r.Resume, r.Pause()
}

// configure makes image what from, a container's configuration, says, with changes.
func configure(image *dockerspec.DockerOCIImageConfig, from *dockercontainer.Config, changes []string) error {
	image.User = from.User
	image.Env = slices.Clone(from.Env)
	image.Entrypoint = from.Entrypoint
	image.Cmd = from.Cmd
	image.WorkingDir = from.WorkingDir
	image.Labels = from.Labels
	image.Volumes = from.Volumes
	image.StopSignal = from.StopSignal
	image.ExposedPorts = map[string]struct{}{}
	for port := range from.ExposedPorts {
		image.ExposedPorts[port.String()] = struct{}{}
	}
	hasCmd := false
	for _, change := range changes {
		name, err := applyChange(image, change, hasCmd)
		if err != nil {
			return err
		}
		hasCmd = hasCmd || name == "CMD"
	}
	return nil
}

// writeLayer writes what is in the directory upper, an overlayfs's, to the file path as a layer:
// OCI image-spec, layer.md. What overlayfs takes for a deleted file, a character device 0:0,
// becomes an empty file .wh.NAME, and a directory that hides all below gets an empty file
// .wh..wh..opq. Sockets mean nothing without who listens on them: containerd's package leaves
// them out.
//
// upper is "/" meanwhile, on a thread of its own, so that no link in it leads out, whatever
// becomes a link while we look.
func writeLayer(ctx context.Context, path, upper string) (diffID digest.Digest, empty bool, err error) {
	file, err := os.Create(path)
	if err != nil {
		return "", false, err
	}
	defer file.Close()
	digester := digest.SHA256.Digester()
	layer := archive.NewChangeWriter(io.MultiWriter(file, digester.Hash()), "/")
	empty = true
	err = withMounts(func() error {
		if err := unix.Chroot(upper); err != nil {
			return fmt.Errorf("chroot %s: %w", upper, err)
		}
		return filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == "/" {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			empty = false
			if stat := info.Sys().(*syscall.Stat_t); entry.Type()&fs.ModeCharDevice != 0 && stat.Rdev == 0 {
				return layer.HandleChange(continuity.ChangeKindDelete, path, nil, nil)
			}
			err = layer.HandleChange(continuity.ChangeKindModify, path, info, nil)
			opaque, _ := sysx.LGetxattr(path, "trusted.overlay.opaque")
			if err == nil && string(opaque) == "y" { // .wh. and this make the name
				err = layer.HandleChange(continuity.ChangeKindDelete, path+"/.wh..opq", nil, nil)
			}
			return err
		})
	})
	err = errors.Join(err, layer.Close())
	return digester.Digest(), empty, err
}
