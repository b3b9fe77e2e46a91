package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"
)

// systemCommand has commands for all of gocker's store.
func systemCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "system COMMAND", Short: "Look after gocker's store"}
	cmd.AddCommand(systemPruneCommand())
	return cmd
}

// systemPruneCommand removes what is not used.
func systemPruneCommand() *cobra.Command {
	var force, all, volumes bool
	cmd := &cobra.Command{
		Use:               "prune [OPTIONS]",
		Short:             "Remove containers that do not run, images without a name, and what they leave",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if !force && !confirmPrune(cmd.InOrStdin(), out, all, volumes) {
				return nil
			}
			return pruneSystem(out, all, volumes)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&force, "force", "f", false, "do not ask")
	flags.BoolVarP(&all, "all", "a", false, "also images with names, if no container is made of them")
	flags.BoolVar(&volumes, "volumes", false, "also volumes that no container has")
	return cmd
}

// confirmPrune asks whether all of that is to be removed.
func confirmPrune(in io.Reader, out io.Writer, all, volumes bool) bool {
	fmt.Fprint(out, "WARNING! This will remove:\n",
		"  - all stopped containers\n",
		"  - all networks not used by at least one container\n")
	if volumes {
		fmt.Fprintln(out, "  - all anonymous volumes not used by at least one container")
	}
	if all {
		fmt.Fprintln(out, "  - all images without at least one container associated to them")
	} else {
		fmt.Fprintln(out, "  - all dangling images")
	}
	fmt.Fprint(out, "\nAre you sure you want to continue? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n') // an end of the input is a no
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// pruneSystem removes it, in an order in which nothing uses any more what is removed next. What
// cannot be removed does not keep the rest.
func pruneSystem(out io.Writer, all, volumes bool) error {
	var failed []error
	var sum int64
	step := func(title string, deleted []string, reclaimed int64, err error) {
		if len(deleted) > 0 {
			fmt.Fprintf(out, "%s:\n%s\n\n", title, strings.Join(deleted, "\n"))
		}
		sum += reclaimed
		failed = append(failed, err)
	}
	deleted, reclaimed, err := pruneContainers()
	step("Deleted Containers", deleted, reclaimed, err)
	if volumes {
		deleted, reclaimed, err = pruneVolumes(false)
		step("Deleted Volumes", deleted, reclaimed, err)
	}
	deleted, reclaimed, err = pruneImages(all)
	step("Deleted Images", deleted, reclaimed, err)

	left, err := listContainers()
	failed = append(failed, err)
	inUse := false
	for _, c := range left {
		inUse = inUse || c.running()
	}
	if err == nil && !inUse {
		failed = append(failed, removeBridge())
	}
	fmt.Fprintln(out, "Total reclaimed space:", units.HumanSize(float64(sum)))
	return errors.Join(failed...)
}

// pruneContainers removes the containers that do not run.
func pruneContainers() (deleted []string, reclaimed int64, err error) {
	all, err := listContainers()
	if err != nil {
		return nil, 0, err
	}
	var failed []error
	for _, c := range all {
		if c.running() {
			continue
		}
		size := treeSize(c.dir())
		err := removeContainer(c, false)
		var started mustStop
		var removed noContainer
		if errors.As(err, &started) || errors.As(err, &removed) {
			continue // somebody was faster
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		deleted = append(deleted, c.ID)
		reclaimed += size
	}
	return deleted, reclaimed, errors.Join(failed...)
}

// treeSize is how many bytes the files in the directory top have. What cannot be read is not
// counted.
func treeSize(top string) (size int64) {
	filepath.WalkDir(top, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // and go on with the rest
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}
