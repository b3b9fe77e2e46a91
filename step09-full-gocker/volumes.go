package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"
)

// volumeCommand is "gocker volume".
func volumeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Manage volumes", Args: cobra.NoArgs}
	cmd.AddCommand(volumeListCommand(), volumeRemoveCommand(), volumeCreateCommand(), volumeInspectCommand(), volumePruneCommand())
	return cmd
}

func volumeListCommand() *cobra.Command {
	var quiet bool
	var format string
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes", Args: cobra.NoArgs}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	cmd.Flags().StringVar(&format, "format", formatter.TableFormatKey, "Format output by a template, or as json")
	cmd.Flags().VarP(&filter, "filter", "f", `Filter output: "name=x", "label=x", "driver=local", "dangling=true"`)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		volumes, err := listVolumes()
		if err != nil {
			return err
		}
		var shown []volume.Volume
		for _, v := range volumes {
			ok, err := matchVolume(v, filter.Value())
			if err != nil {
				return err
			}
			if ok {
				shown = append(shown, v)
			}
		}
		return formatter.VolumeWrite(formatter.Context{Output: cmd.OutOrStdout(),
			Format: formatter.NewVolumeFormat(format, quiet)}, shown)
	}
	return cmd
}

// matchVolume tells whether v is one that all of the filters let through; of the values that a
// filter has, one is enough.
func matchVolume(v volume.Volume, filters map[string]map[string]bool) (bool, error) {
	for filter, values := range filters {
		matches := false
		for value := range values {
			switch filter {
			case "name":
				matches = matches || strings.Contains(v.Name, value)
			case "driver":
				matches = matches || v.Driver == value
			case "label":
				key, wanted, hasValue := strings.Cut(value, "=")
				found, ok := v.Labels[key]
				matches = matches || ok && (!hasValue || found == wanted)
			case "dangling":
				users, err := volumeUsers(v.Name, "")
				if err != nil {
					return false, err
				}
				wanted := value == "true" || value == "1"
				matches = matches || wanted == (len(users) == 0)
			default:
				return false, fmt.Errorf("Invalid filter '%s'", filter)
			}
		}
		if !matches {
			return false, nil
		}
	}
	return true, nil
}

func volumeRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{Use: "rm [OPTIONS] VOLUME [VOLUME...]", Aliases: []string{"remove"},
		Short: "Remove one or more volumes", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not complain about a volume that is not there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var failed []error
		for _, name := range args {
			err := removeVolume(name, "")
			if force && errors.As(err, new(noVolume)) {
				err = nil
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
		}
		return errors.Join(failed...)
	}
	return cmd
}

func volumeCreateCommand() *cobra.Command {
	labels := opts.NewListOpts(opts.ValidateLabel)
	cmd := &cobra.Command{Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: cobra.MaximumNArgs(1)}
	cmd.Flags().Var(&labels, "label", "Set metadata for a volume")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := newID()
		if len(args) == 1 {
			name = args[0]
		}
		if err := checkVolumeName(name); err != nil {
			return err
		}
		if err := makeVolume(name, opts.ConvertKVStringsToMap(labels.GetSlice()), len(args) == 0); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), name)
		return nil
	}
	return cmd
}

func volumeInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{Use: "inspect [OPTIONS] VOLUME [VOLUME...]",
		Short: "Display detailed information on one or more volumes", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output by a template, or as json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := newInspector(format)
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			v, err := loadVolume(name)
			if err == nil {
				err = i.add(v)
			}
			failed = append(failed, err)
		}
		return errors.Join(append(failed, i.print(cmd.OutOrStdout(), format == "json"))...)
	}
	return cmd
}

func volumePruneCommand() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove volumes that no container has", Args: cobra.NoArgs}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Those with names, too")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind := "anonymous local volumes"
		if all {
			kind = "all local volumes"
		}
		if !force {
			fmt.Fprintf(cmd.OutOrStdout(), "WARNING! This will remove %s not used by at least one container.\n"+
				"Are you sure you want to continue? [y/N] ", kind)
			answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if !strings.EqualFold(strings.TrimSpace(answer), "y") {
				return errors.New("volume prune has been cancelled")
			}
		}
		deleted, reclaimed, err := pruneVolumes(all)
		if len(deleted) > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "Deleted Volumes:\n%s\n\n", strings.Join(deleted, "\n"))
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "Total reclaimed space:", units.HumanSize(float64(reclaimed)))
		return nil
	}
	return cmd
}
