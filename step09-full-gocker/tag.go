package main

import (
	"context"
	"errors"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
)

func tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Give an image one more name",
		Args:  cobra.ExactArgs(2),
		RunE: failsWith1(func(_ context.Context, args []string) error {
			ref, err := reference.ParseNormalizedNamed(args[1])
			if err != nil {
				return err
			}
			if _, ok := ref.(reference.Digested); ok {
				return errors.New("refusing to create a tag with a digest reference")
			}
			return tagImage(args[0], reference.TagNameOnly(ref))
		}),
	}
}

// tagImage gives the image source the name ref.
func tagImage(source string, ref reference.Named) (err error) {
	work, err := newWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	store, err := lockStore(false)
	if err != nil {
		return err
	}
	defer store.Close()
	img, err := findImage(source)
	if err != nil {
		return err
	}
	return work.name(img, ref)
}
