package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/template"
	"time"

	"github.com/docker/cli/templates"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	dockercontainer "github.com/moby/moby/api/types/container"
	dockerimage "github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"
)

// inspectCommand shows all that is known of containers and images, in docker's form.
func inspectCommand() *cobra.Command {
	var format, kind string
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] NAME|ID...",
		Short:             "Show all that is known of containers and images, as JSON",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && kind != "container" && kind != "image" {
				return fmt.Errorf("unknown type: %q: must be one of \"container\", \"image\"", kind)
			}
			i, err := newInspector(format)
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range args {
				object, err := inspectObject(name, kind)
				if err == nil {
					err = i.add(object)
				}
				failed = append(failed, err)
			}
			return errors.Join(append(failed, i.print(cmd.OutOrStdout(), format == "json"))...)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "", "a Go `template`, or json for one line")
	flags.StringVar(&kind, "type", "", "`container` or image: only that")
	return cmd
}

// An inspector collects what inspect prints.
type inspector struct {
	template *template.Template // or nil for JSON
	text     bytes.Buffer       // what the template has made
	objects  [][]byte           // JSON
}

// newInspector returns one that prints what format says: a template, or JSON.
func newInspector(format string) (*inspector, error) {
	i := &inspector{}
	if format == "" || format == "json" {
		return i, nil
	}
	var err error
	if i.template, err = templates.Parse(format); err != nil {
		return nil, failure{fmt.Errorf("template parsing error: %w", err), 64} // docker's status
	}
	return i, nil
}

// add adds an object. The template may use the names of our Go fields, or else those of the JSON,
// which are mostly the same.
func (i *inspector) add(object any) error {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false) // > is to be >
	if err := encoder.Encode(object); err != nil {
		return err
	}
	raw := encoded.Bytes()
	if i.template == nil {
		i.objects = append(i.objects, raw)
		return nil
	}
	var text bytes.Buffer
	if err := i.template.Execute(&text, object); err != nil {
		var fields any
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber() // 1000000000 rather than 1e+09
		if err := decoder.Decode(&fields); err != nil {
			return err
		}
		text.Reset()
		if err := i.template.Option("missingkey=error").Execute(&text, fields); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
	}
	i.text.Write(text.Bytes())
	i.text.WriteByte('\n')
	return nil
}

// print prints what was added: an array, with a line for each field or in one line, or the text.
func (i *inspector) print(out io.Writer, oneLine bool) error {
	if i.template != nil {
		if i.text.Len() == 0 {
			i.text.WriteByte('\n')
		}
		_, err := out.Write(i.text.Bytes())
		return err
	}
	array := slices.Concat([]byte{'['}, bytes.Join(i.objects, []byte{','}), []byte{']'})
	var text bytes.Buffer
	var err error
	if oneLine {
		err = json.Compact(&text, array)
	} else {
		err = json.Indent(&text, array, "", "    ")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, text.String())
	return err
}

// inspectObject returns what is shown of the container or else the image that is called name.
func inspectObject(name, kind string) (any, error) {
	if kind != "image" {
		c, err := findContainer(name)
		if err == nil {
			return inspectContainer(c), nil
		}
		var unknown noContainer
		if kind != "" || !errors.As(err, &unknown) {
			return nil, err
		}
	}
	img, err := findImage(name)
	if err == nil {
		return inspectImage(img)
	}
	if kind == "" {
		return nil, fmt.Errorf("Error: No such object: %s", name)
	}
	return nil, err
}

// inspectedContainer is docker's description of a container. Of the network it has also what docker
// had in it until its version 28, as many scripts ask for that.
type inspectedContainer struct {
	dockercontainer.InspectResponse
	NetworkSettings inspectedNetwork
}

type inspectedNetwork struct {
	*dockercontainer.NetworkSettings
	IPAddress, Gateway, MacAddress string
	IPPrefixLen                    int
}

// inspectContainer returns what is shown of c.
func inspectContainer(c *container) inspectedContainer {
	state := c.state()
	argv := c.argv()
	args := []string{}
	path := ""
	if len(argv) > 0 {
		path, args = argv[0], append(args, argv[1:]...)
	}
	mounts := c.Mounts
	if mounts == nil {
		mounts = []dockercontainer.MountPoint{} // shown as [] rather than null
	}
	r := dockercontainer.InspectResponse{
		ID:      c.ID,
		Created: timeText(c.Created),
		Path:    path,
		Args:    args,
		State: &dockercontainer.State{
			Status:     state,
			Running:    state == stateRunning || state == statePaused,
			Paused:     state == statePaused,
			OOMKilled:  c.OOM,
			Pid:        c.pid(),
			ExitCode:   c.ExitCode,
			Error:      c.Error,
			StartedAt:  timeText(c.Started),
			FinishedAt: timeText(c.Finished),
		},
		Image:          c.ImageID,
		ResolvConfPath: filepath.Join(c.dir(), "resolv.conf"),
		HostnamePath:   filepath.Join(c.dir(), "hostname"),
		HostsPath:      filepath.Join(c.dir(), "hosts"),
		LogPath:        logPath(c),
		Name:           "/" + c.Name,
		Driver:         "overlay2", // as docker calls it: overlayfs
		Platform:       "linux",
		HostConfig:     c.HostConfig,
		Mounts:         mounts,
		Config:         c.Config,
	}
	if r.State.Running {
		r.State.ExitCode = 0 // that of the last run is nothing to do with this one
	}
	return inspectedContainer{InspectResponse: r, NetworkSettings: inspectNetwork(c)}
}

// inspectNetwork returns what is shown of the network of c.
func inspectNetwork(c *container) inspectedNetwork {
	n := inspectedNetwork{NetworkSettings: networkSettings(c)}
	if bridge := n.Networks["bridge"]; bridge != nil {
		if bridge.IPAddress.IsValid() {
			n.IPAddress = bridge.IPAddress.String()
		}
		if bridge.Gateway.IsValid() {
			n.Gateway = bridge.Gateway.String()
		}
		n.MacAddress = bridge.MacAddress.String()
		n.IPPrefixLen = bridge.IPPrefixLen
	}
	return n
}

// inspectImage returns what is shown of img.
func inspectImage(img *image) (*dockerimage.InspectResponse, error) {
	content, err := os.ReadFile(filepath.Join(img.dir, "config.json"))
	if err != nil {
		return nil, err
	}
	var all dockerspec.DockerOCIImage // has the fields that docker adds to OCI's
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, fmt.Errorf("image %s: %w", img.ID, err)
	}
	tags, digests, err := img.names()
	if err != nil {
		return nil, err
	}
	size, err := img.size()
	if err != nil {
		return nil, err
	}
	r := &dockerimage.InspectResponse{
		ID:           img.ID,
		RepoTags:     append([]string{}, tags...), // shown as [] rather than null
		RepoDigests:  append([]string{}, digests...),
		Author:       all.Author,
		Config:       &all.Config,
		Architecture: all.Architecture,
		Variant:      all.Variant,
		Os:           all.OS,
		OsVersion:    all.OSVersion,
		Size:         size,
		RootFS:       dockerimage.RootFS{Type: all.RootFS.Type},
	}
	if all.Created != nil {
		r.Created = timeText(*all.Created)
	}
	if n := len(all.History); n > 0 {
		r.Comment = all.History[n-1].Comment
	}
	for _, id := range all.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, id.String())
	}
	return r, nil
}

// timeText is a time as docker writes it.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
