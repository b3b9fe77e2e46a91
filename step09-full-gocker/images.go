package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	dockerimage "github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"
)

func imagesCommand() *cobra.Command {
	var quiet, whole, digests, all bool
	var format string
	filter := opts.NewFilterOpt()
	command := &cobra.Command{
		Use:   "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short: "List images",
		Args:  cobra.MaximumNArgs(1),
		RunE: failsWith1(func(_ context.Context, args []string) error {
			filters := filter.Value()
			for _, pattern := range args {
				filters.Add("reference", pattern)
			}
			summaries, err := summarize(filters)
			if err != nil {
				return err
			}
			if format == "" {
				format = formatter.TableFormatKey
			}
			return formatter.ImageWrite(formatter.ImageContext{
				Context: formatter.Context{
					Output: os.Stdout,
					Format: formatter.NewImageFormat(format, quiet, digests),
					Trunc:  !whole,
				},
				Digest: digests,
			}, summaries)
		}),
	}
	flags := command.Flags()
	flags.BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	flags.BoolVarP(&all, "all", "a", false, "all of them, as always: there are no intermediate images")
	flags.BoolVar(&whole, "no-trunc", false, "print IDs whole")
	flags.BoolVar(&digests, "digests", false, "print what their registries call them")
	flags.StringVar(&format, "format", "", `"table", "json", "raw" or a Go template`)
	flags.VarP(&filter, "filter", "f", "only these: dangling=true, reference=PATTERN, label=KEY[=VALUE]")
	return command
}

// summarize returns what docker's formatter is to print of the images that filters let through,
// the newest first: an element for every repository that an image has names in, so that their
// order is the same every time.
func summarize(filters map[string]map[string]bool) ([]dockerimage.Summary, error) {
	accepts, err := imageFilter(filters)
	if err != nil {
		return nil, err
	}
	images, err := listImages()
	if err != nil {
		return nil, err
	}
	all, err := allReferences()
	if err != nil {
		return nil, err
	}
	var summaries []dockerimage.Summary
	for _, img := range images {
		refs := all[img.ID]
		if !accepts(img, refs) {
			continue
		}
		size, err := img.size()
		if err != nil {
			return nil, err
		}
		summary := dockerimage.Summary{ID: img.ID, Created: img.created().Unix(), Size: size,
			Labels: img.Config.Labels, SharedSize: -1, Containers: -1}
		if len(refs) == 0 {
			summaries = append(summaries, summary)
			continue
		}
		patterns := filters["reference"]
		for len(refs) > 0 {
			one := onlyIn(refs[0], refs)
			refs = refs[len(one):] // they are sorted
			summary.RepoTags, summary.RepoDigests = tagsAndDigests(matching(one, patterns))
			if summary.RepoTags != nil || summary.RepoDigests != nil {
				summaries = append(summaries, summary)
			}
		}
	}
	return summaries, nil
}

// matching returns those of refs that one of the patterns, path.Match, means; all if there is none.
func matching(refs []reference.Named, patterns map[string]bool) (found []reference.Named) {
	if len(patterns) == 0 {
		return refs
	}
	for _, ref := range refs {
		for pattern := range patterns {
			if ok, _ := reference.FamiliarMatch(pattern, ref); ok {
				found = append(found, ref)
				break
			}
		}
	}
	return found
}

// imageFilter returns a function that tells whether all of filters let an image with the names refs
// through: of the values of one filter one is enough.
func imageFilter(filters map[string]map[string]bool) (func(img *image, refs []reference.Named) bool, error) {
	type test func(img *image, refs []reference.Named) bool
	var tests []test
	for name, values := range filters {
		var alternatives []test
		for value := range values {
			one, err := imageTest(name, value)
			if err != nil {
				return nil, err
			}
			alternatives = append(alternatives, one)
		}
		tests = append(tests, func(img *image, refs []reference.Named) bool {
			for _, alternative := range alternatives {
				if alternative(img, refs) {
					return true
				}
			}
			return false
		})
	}
	return func(img *image, refs []reference.Named) bool {
		for _, passes := range tests {
			if !passes(img, refs) {
				return false
			}
		}
		return true
	}, nil
}

// imageTest is what the one filter name=value asks of an image.
func imageTest(name, value string) (func(img *image, refs []reference.Named) bool, error) {
	switch name {
	case "dangling":
		wanted, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'dangling=%s'", value)
		}
		return func(img *image, refs []reference.Named) bool {
			tags, _ := tagsAndDigests(refs)
			return (len(tags) == 0) == wanted
		}, nil
	case "reference":
		return func(img *image, refs []reference.Named) bool {
			return len(matching(refs, map[string]bool{value: true})) > 0
		}, nil
	case "label":
		key, wanted, exact := strings.Cut(value, "=")
		return func(img *image, refs []reference.Named) bool {
			got, ok := img.Config.Labels[key]
			return ok && (!exact || got == wanted)
		}, nil
	}
	return nil, fmt.Errorf("Invalid filter '%s'", name)
}
