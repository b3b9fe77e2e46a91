package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/cli/templates"
	units "github.com/docker/go-units"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// psCommand lists containers.
func psCommand() *cobra.Command {
	var all, latest, noTrunc, quiet bool
	var last int
	var format string
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:               "ps [OPTIONS]",
		Short:             "List containers, those that run if nothing else is said",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := templates.Parse(format); err != nil {
				return fmt.Errorf("failed to parse template: %w", err)
			}
			if quiet && format != "" {
				cmd.PrintErrln("WARNING: Ignoring custom format, because both --format and --quiet are set.")
			}
			if latest && last < 0 {
				last = 1
			}
			filters, err := newPsFilters(filter.Value())
			if err != nil {
				return err
			}
			containers, err := listContainers()
			if err != nil {
				return err
			}
			var shown []dockercontainer.Summary
			for _, c := range containers {
				if last > 0 && len(shown) == last {
					break
				}
				s := summarizeContainer(c)
				running := s.State == stateRunning || s.State == statePaused
				if !running && !all && last <= 0 && !filters.wantsAll() || !filters.match(c, s) {
					continue
				}
				shown = append(shown, s)
			}
			return formatter.ContainerWrite(formatter.Context{
				Output: cmd.OutOrStdout(),
				Format: formatter.NewContainerFormat(format, quiet, false),
				Trunc:  !noTrunc,
			}, shown)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&all, "all", "a", false, "all containers, also those that do not run")
	flags.BoolVarP(&latest, "latest", "l", false, "the newest container, running or not")
	flags.IntVarP(&last, "last", "n", -1, "the newest `N` containers, running or not")
	flags.BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	flags.BoolVar(&noTrunc, "no-trunc", false, "whole IDs and commands")
	flags.StringVar(&format, "format", "", "a Go `template`, or table, table TEMPLATE or json")
	flags.VarP(&filter, "filter", "f", "only those with `KEY=VALUE`: ancestor, exited, id, label, name, status, volume")
	return cmd
}

// summarizeContainer returns what docker's API says of c in a list.
func summarizeContainer(c *container) dockercontainer.Summary {
	settings := networkSettings(c)
	s := dockercontainer.Summary{
		ID:              c.ID,
		Names:           []string{"/" + c.Name},
		Image:           c.ImageName,
		ImageID:         c.ImageID,
		Command:         commandText(c),
		Created:         c.Created.Unix(),
		Ports:           portSummaries(c),
		Labels:          c.Config.Labels,
		State:           c.state(),
		Status:          statusText(c),
		NetworkSettings: &dockercontainer.NetworkSettingsSummary{Networks: settings.Networks},
		Mounts:          c.Mounts,
	}
	s.HostConfig.NetworkMode = string(c.HostConfig.NetworkMode)
	if img, err := findImage(c.ImageName); err != nil || img.ID != c.ImageID {
		s.Image = c.ImageID // the name has gone to another image
	}
	return s
}

// argv is the command of c with its arguments, as it is executed.
func (c *container) argv() []string { return slices.Concat(c.Config.Entrypoint, c.Config.Cmd) }

// commandText is what ps shows of that.
func commandText(c *container) string {
	words := c.argv()
	for i, word := range words {
		if i > 0 && strings.Contains(word, " ") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}

// statusText says in docker's words what c does, and since when.
func statusText(c *container) string {
	switch c.state() {
	case stateRunning:
		return "Up " + units.HumanDuration(time.Since(c.Started))
	case statePaused:
		return "Up " + units.HumanDuration(time.Since(c.Started)) + " (Paused)"
	case stateCreated:
		return "Created"
	}
	if c.Removing {
		return "Removal In Progress"
	}
	return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, units.HumanDuration(time.Since(c.Finished)))
}

// psFilters are what ps was told by -f: values by their keys. A container has to match one of the
// values of each key, but all labels.
type psFilters struct {
	values    client.Filters
	ancestors []string // the IDs of the images that were named
}

// newPsFilters checks what was given.
func newPsFilters(given client.Filters) (*psFilters, error) {
	f := &psFilters{values: given}
	for key, values := range given {
		for value := range values {
			if err := f.prepare(key, value); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// prepare checks one value, and finds what it names.
func (f *psFilters) prepare(key, value string) error {
	switch key {
	case "id", "label", "name", "volume":
	case "exited":
		if _, err := strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid filter 'exited=%s': %w", value, err)
		}
	case "status":
		if err := dockercontainer.ValidateContainerState(dockercontainer.ContainerState(value)); err != nil {
			return fmt.Errorf("invalid filter 'status=%s': %w", value, err)
		}
	case "ancestor":
		if img, err := findImage(value); err == nil { // of one that is not there nothing is made
			f.ancestors = append(f.ancestors, img.ID)
		}
	default:
		return fmt.Errorf("Invalid filter '%s'", key)
	}
	return nil
}

// wantsAll tells whether containers that do not run are wanted as well.
func (f *psFilters) wantsAll() bool {
	return len(f.values["status"]) > 0 || len(f.values["exited"]) > 0
}

// match tells whether c, of which s is the summary, is one of those wanted.
func (f *psFilters) match(c *container, s dockercontainer.Summary) bool {
	for label := range f.values["label"] {
		key, value, hasValue := strings.Cut(label, "=")
		if actual, ok := c.Config.Labels[key]; !ok || hasValue && actual != value {
			return false
		}
	}
	return f.any("id", func(id string) bool { return strings.HasPrefix(c.ID, id) }) &&
		f.any("name", func(name string) bool { return matchName(c.Name, name) }) &&
		f.any("status", func(status string) bool { return status == string(s.State) }) &&
		f.any("exited", func(status string) bool {
			return s.State == stateExited && status == strconv.Itoa(c.ExitCode)
		}) &&
		f.any("volume", func(volume string) bool { return hasVolume(c, volume) }) &&
		f.any("ancestor", func(string) bool { return slices.Contains(f.ancestors, c.ImageID) })
}

// any tells whether one of the values of key is as matches says, or there is none.
func (f *psFilters) any(key string, matches func(value string) bool) bool {
	if len(f.values[key]) == 0 {
		return true
	}
	for value := range f.values[key] {
		if matches(value) {
			return true
		}
	}
	return false
}

// matchName tells whether the name of a container has what was given in it: a regular expression,
// as with docker, or at least a part.
func matchName(name, given string) bool {
	expression, err := regexp.Compile(given)
	if err != nil {
		return strings.Contains(name, given)
	}
	return expression.MatchString(name) || expression.MatchString("/"+name)
}

// hasVolume tells whether volume is the name, the source or the destination of a mount of c.
func hasVolume(c *container, volume string) bool {
	return slices.ContainsFunc(c.Mounts, func(m dockercontainer.MountPoint) bool {
		if m.Destination == volume {
			return true
		}
		return m.Name == volume || m.Name == "" && m.Source == volume
	})
}
