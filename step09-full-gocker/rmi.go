package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
)

func rmiCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove one or more images",
		Args:  cobra.MinimumNArgs(1),
		RunE: failsWith1(func(_ context.Context, args []string) error {
			var failures []error
			failed := false
			for _, name := range args {
				records, err := removeImage(name, force)
				for _, record := range records {
					fmt.Println(record)
				}
				if err != nil {
					failures = append(failures, err)
					var missing noImage
					failed = failed || !force || !errors.As(err, &missing)
				}
			}
			err := errors.Join(failures...)
			if err != nil && !failed {
				fmt.Fprintln(os.Stderr, "gocker:", err) // as docker's: -f makes it no failure
				return nil
			}
			return err
		}),
	}
	command.Flags().BoolVarP(&force, "force", "f", false, "also if it has several names or a stopped container")
	return command
}

// A removal is what goes out of the store in one go: into a workspace, while the store is
// locked, and from there, which takes longer, when it is not.
type removal struct {
	work    *workspace
	users   []*container
	records []string // what has been done, in docker's words
	bytes   int64    // in the files of layers that are removed
	moved   int
}

// removing calls f with the store locked, and removes then what f has moved into the workspace.
func removing(f func(r *removal) error) (*removal, error) {
	work, err := newWorkspace()
	if err != nil {
		return nil, err
	}
	r := &removal{work: work}
	store, err := lockStore(true)
	if err == nil {
		r.users, err = containerRecords()
		if err == nil {
			err = f(r)
		}
		store.Close()
	}
	return r, errors.Join(err, work.close())
}

// containerRecords returns the records of all containers as they are. To reconcile them, as
// listContainers does, takes locks that others have while they wait for the store.
func containerRecords() (all []*container, err error) {
	files, err := filepath.Glob(containersDir + "/*/container.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		c, err := loadContainer(filepath.Base(filepath.Dir(file)))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just been removed
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// removeImage does what docker rmi does with name, and returns what it prints, also with an
// error. A name goes; the image, when it has no other one. An ID means the image with all its
// names.
func removeImage(name string, force bool) ([]string, error) {
	r, err := removing(func(r *removal) error {
		img, err := findImage(name)
		if err != nil {
			return err
		}
		if isRemoved(img.dir) {
			return noImage(name)
		}
		all, err := allReferences()
		if err != nil {
			return err
		}
		refs := all[img.ID]
		isID := strings.HasPrefix(img.ID, name) || strings.HasPrefix(img.ID, "sha256:"+name)
		if !isID {
			return r.removeName(img, name, refs, force)
		}
		if !oneRepository(refs) && !force {
			return conflict(img, "must be forced", "image is referenced in multiple repositories")
		}
		if err := r.mayRemove(img, force); err != nil {
			return err
		}
		return r.removeWhole(img, refs)
	})
	if r == nil {
		return nil, err
	}
	return r.records, err
}

// removeName takes name from img, and removes img if that was the last one. Digests are names
// that go with the last tag of their repository.
func (r *removal) removeName(img *image, name string, refs []reference.Named, force bool) error {
	user := r.user(img, false)
	if user != nil && !force && oneRepository(refs) {
		return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - "+
			"container %s is using its referenced image %s", name, shortID(user.ID), shortID(img.ID))
	}
	ref, err := parseReference(name)
	if err != nil {
		return err
	}
	going := []reference.Named{ref}
	same := onlyIn(ref, refs)
	tags, _ := tagsAndDigests(same)
	if !isDigest(ref) && len(tags) == 1 {
		for _, other := range same {
			if isDigest(other) {
				going = append(going, other)
			}
		}
	}
	if len(going) == len(refs) && r.user(img, true) == nil {
		return r.removeWhole(img, going)
	}
	return r.untag(going)
}

// untag takes the names refs from their images.
func (r *removal) untag(refs []reference.Named) error {
	for _, ref := range refs {
		if err := removeReference(ref); err != nil {
			return err
		}
		r.records = append(r.records, "Untagged: "+reference.FamiliarString(ref))
	}
	return nil
}

// oneRepository tells whether at most one of refs is a tag, and all are names in one repository.
func oneRepository(refs []reference.Named) bool {
	tags, _ := tagsAndDigests(refs)
	return len(tags) <= 1 && (len(refs) == 0 || len(onlyIn(refs[0], refs)) == len(refs))
}

// user returns a container that is made of img, and runs if running; nil if there is none.
func (r *removal) user(img *image, running bool) *container {
	for _, c := range r.users {
		if c.ImageID == img.ID && (!running || c.running()) {
			return c
		}
	}
	return nil
}

// mayRemove returns docker's error for an image that is in use.
func (r *removal) mayRemove(img *image, force bool) error {
	if c := r.user(img, true); c != nil {
		return conflict(img, "cannot be forced", "image is being used by running container "+shortID(c.ID))
	}
	if c := r.user(img, false); c != nil && !force {
		return conflict(img, "must be forced", "image is being used by stopped container "+shortID(c.ID))
	}
	return nil
}

func conflict(img *image, force, why string) error {
	return fmt.Errorf("conflict: unable to delete %s (%s) - %s", shortID(img.ID), force, why)
}

// removeWhole removes img, whose names are refs, with the layers that no other image has. If a
// stopped container needs it, it stays for that, but is not an image that the user sees.
func (r *removal) removeWhole(img *image, refs []reference.Named) error {
	if err := r.untag(refs); err != nil {
		return err
	}
	r.records = append(r.records, "Deleted: "+img.ID)
	if r.user(img, false) != nil {
		return os.WriteFile(filepath.Join(img.dir, "removed"), nil, 0o600)
	}
	if err := r.take(img.dir); err != nil {
		return err
	}
	needed, err := neededLayers()
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(img.layerDirs()) {
		if needed[dir] {
			break // and so are those below it
		}
		if err := r.takeLayer(dir); err != nil {
			return err
		}
		r.records = append(r.records, "Deleted: sha256:"+filepath.Base(dir))
	}
	return nil
}

// take moves a file or directory, if it is there, into the workspace.
func (r *removal) take(path string) error {
	r.moved++
	err := os.Rename(path, filepath.Join(r.work.dir, "removed-"+strconv.Itoa(r.moved)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// takeLayer moves the layer in dir into the workspace.
func (r *removal) takeLayer(dir string) error {
	description, err := readLayer(dir)
	if err != nil {
		return err
	}
	r.bytes += description.Size
	return errors.Join(r.take(archiveDir(dir)), r.take(dir))
}

// neededLayers returns the directories of the layers that images have, also those that are being
// pulled or saved.
func neededLayers() (map[string]bool, error) {
	needed := map[string]bool{}
	for _, pattern := range []string{imagesDir + "/*/config.json", partialDir + "/*/*.json"} {
		configs, err := configsIn(pattern)
		if err != nil {
			return nil, err
		}
		for _, config := range configs {
			img := image{Image: config}
			for _, dir := range img.layerDirs() {
				needed[dir] = true
			}
		}
	}
	return needed, nil
}
