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
	"slices"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func saveCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Write images to an archive that docker, podman and gocker load",
		Args:  cobra.MinimumNArgs(1),
		RunE: failsWith1(func(_ context.Context, args []string) error {
			if output != "" {
				return writeOutput(output, func(file *os.File) error { return saveImages(file, args) })
			}
			if term.IsTerminal(int(os.Stdout.Fd())) {
				return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
			}
			return saveImages(os.Stdout, args)
		}),
	}
	command.Flags().StringVarP(&output, "output", "o", "", "write to this file instead of stdout")
	return command
}

// writeOutput calls f with a new file that becomes output when f has written it without an
// error. What is no file, like /dev/null, it opens.
func writeOutput(output string, f func(file *os.File) error) error {
	stat, err := os.Stat(output)
	if err == nil && stat.IsDir() {
		return fmt.Errorf("invalid output path: %q is a directory", output)
	}
	if err == nil && !stat.Mode().IsRegular() {
		file, err := os.OpenFile(output, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(file), file.Close())
	}
	file, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+"-")
	if err != nil {
		return fmt.Errorf("invalid output path: %w", err)
	}
	defer os.Remove(file.Name()) // which is not there any more if all goes well
	if err := errors.Join(f(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), output)
}

// A saving is an archive of docker save while it is written.
type saving struct {
	archive *tar.Writer
	written map[string]bool // layers that are in it
	images  []*dockerImage
	byID    map[string]*dockerImage
	tops    map[string]map[string]string // repositories: NAME, TAG and the topmost layer's directory
}

// saveImages writes the images with these names to w.
func saveImages(w io.Writer, names []string) (err error) {
	work, err := newWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	var savedNames []string
	for _, name := range names {
		more, err := withAllTags(name)
		if err != nil {
			return err
		}
		savedNames = append(savedNames, more...)
	}
	var images []*image // before anything is written, as one of them may not be there
	for _, name := range savedNames {
		img, err := findImage(name)
		if err != nil {
			return err
		}
		config, err := img.rawConfig()
		if err != nil {
			return err
		}
		if err := work.keep(config); err != nil {
			return err
		}
		images = append(images, img)
	}
	s := &saving{tar.NewWriter(w), map[string]bool{}, nil, map[string]*dockerImage{}, map[string]map[string]string{}}
	for i, img := range images {
		if s.byID[img.ID] == nil {
			if err := s.writeImage(img); err != nil {
				return err
			}
		}
		s.tag(img, savedNames[i])
	}
	if err := s.writeJSON("manifest.json", s.images); err != nil {
		return err
	}
	if len(s.tops) > 0 { // what docker before 1.10 reads
		if err := s.writeJSON("repositories", s.tops); err != nil {
			return err
		}
	}
	return s.archive.Close()
}

// withAllTags returns all tags of the repository that name is, if it is one without a tag, and else
// name.
func withAllTags(name string) (tags []string, err error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil || !reference.IsNameOnly(ref) {
		return []string{name}, nil // findImage says what is wrong
	}
	all, err := allReferences()
	if err != nil {
		return nil, err
	}
	for _, refs := range all {
		found, _ := tagsAndDigests(onlyIn(ref, refs))
		tags = append(tags, found...)
	}
	if len(tags) == 0 {
		return []string{name}, nil // an ID
	}
	slices.Sort(tags)
	return tags, nil
}

// tag notes that img has been asked for by name, if that is a tag.
func (s *saving) tag(img *image, name string) {
	ref, err := parseReference(name)
	if err != nil {
		return // a whole ID
	}
	tagged, ok := ref.(reference.NamedTagged)
	if target, err := os.Readlink(refLink(ref)); !ok || err != nil || target != img.dir {
		return // the beginning of one, or a digest
	}
	saved, text := s.byID[img.ID], reference.FamiliarString(ref)
	if slices.Contains(saved.RepoTags, text) {
		return
	}
	saved.RepoTags = append(saved.RepoTags, text)
	if len(saved.Layers) == 0 {
		return
	}
	repository := reference.FamiliarName(ref)
	if s.tops[repository] == nil {
		s.tops[repository] = map[string]string{}
	}
	s.tops[repository][tagged.Tag()] = path.Dir(saved.Layers[len(saved.Layers)-1])
}

// writeImage writes the layers of img, DIFFIDHEX/layer.tar, those that are not there yet, and its
// configuration, IDHEX.json.
func (s *saving) writeImage(img *image) error {
	saved := &dockerImage{Config: trimAlgorithm(img.ID) + ".json", Layers: []string{}}
	s.images = append(s.images, saved)
	s.byID[img.ID] = saved
	dirs := img.layerDirs()
	for i, diffID := range img.RootFS.DiffIDs {
		name := diffID.Encoded() + "/layer.tar"
		saved.Layers = append(saved.Layers, name)
		if s.written[name] {
			continue
		}
		s.written[name] = true
		description, err := readLayer(dirs[i])
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: description.TarSize}
		if err := s.archive.WriteHeader(header); err != nil {
			return err
		}
		if err := writeArchive(s.archive, dirs[i], diffID); err != nil {
			return err
		}
	}
	config, err := img.rawConfig()
	if err != nil {
		return err
	}
	return s.writeFile(saved.Config, config)
}

func (s *saving) writeJSON(name string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.writeFile(name, append(content, '\n'))
}

func (s *saving) writeFile(name string, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}
	if err := s.archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := s.archive.Write(content)
	return err
}
