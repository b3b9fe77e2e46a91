package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
)

// pruneImages removes the images without a tag, or all of them, that no container is made of, and what
// else is in the store and belongs to no image. It returns what system prune prints, a line each, and
// how many bytes that frees.
func pruneImages(all bool) (lines []string, bytes int64, err error) {
	r, err := removing(func(r *removal) error {
		images, err := listImages()
		if err != nil {
			return err
		}
		references, err := allReferences()
		if err != nil {
			return err
		}
		for _, img := range images {
			refs := references[img.ID]
			tags, _ := tagsAndDigests(refs)
			if r.user(img, false) != nil || len(tags) > 0 && !all {
				continue
			}
			if err := r.removeWhole(img, refs); err != nil {
				return err
			}
		}
		return r.sweep(references)
	})
	if r == nil {
		return nil, 0, err
	}
	for _, record := range r.records {
		lines = append(lines, strings.ToLower(record[:1])+record[1:])
	}
	return lines, r.bytes, err
}

// releaseImage removes what an image that was removed has left for its containers, if there are none any
// more. Whoever removes a container calls it afterwards with its ImageID, and without its lock.
func releaseImage(id string) error {
	if !isRemoved(filepath.Join(imagesDir, trimAlgorithm(id))) {
		return nil
	}
	_, err := removing(func(r *removal) error { return r.sweep(nil) })
	return err
}

// sweep removes images that were kept for containers that are gone, and layers and names that belong to
// no image.
func (r *removal) sweep(references map[string][]reference.Named) error {
	dirs, err := filepath.Glob(imagesDir + "/*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		img := &image{ID: "sha256:" + filepath.Base(dir)}
		if !isRemoved(dir) || r.user(img, false) != nil {
			continue
		}
		if err := r.take(dir); err != nil {
			return err
		}
	}
	needed, err := neededLayers()
	if err != nil {
		return err
	}
	for _, top := range []string{layersDir, archivesDir} {
		entries, err := os.ReadDir(top)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			dir := filepath.Join(layersDir, entry.Name())
			if needed[dir] {
				continue
			}
			if err := r.takeLayer(dir); err != nil {
				return err
			}
		}
	}
	for id, refs := range references {
		if _, err := os.Stat(filepath.Join(imagesDir, trimAlgorithm(id))); err == nil {
			continue
		}
		for _, ref := range refs {
			err := removeReference(ref)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// trimAlgorithm is an image's ID without the sha256: before it.
func trimAlgorithm(id string) string { return strings.TrimPrefix(id, "sha256:") }
