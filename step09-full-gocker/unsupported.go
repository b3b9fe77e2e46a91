package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// unsupportedCommands are those that docker has and gocker has not. They say so.
func unsupportedCommands() []*cobra.Command {
	reasons := []struct{ name, reason string }{
		{"attach", "gocker has no attach: try logs -f, or exec for a shell"},
		{"build", "gocker does not build images: commit makes one from a container; load takes those of docker, podman and buildah"},
		{"builder", "gocker does not build images"},
		{"buildx", "gocker does not build images"},
		{"bake", "gocker does not build images"},
		{"checkpoint", "gocker does not freeze containers to disk"},
		{"compose", "gocker has no compose"},
		{"config", "gocker runs on one host, without swarm"},
		{"container", "gocker has the commands of docker container without that word: gocker ps, gocker rm"},
		{"context", "gocker has no daemon, and runs where it is called"},
		{"events", "gocker has no daemon that could report events"},
		{"export", "gocker does not export: cp NAME:/ - gives a container's files, save an image"},
		{"image", "gocker has the commands of docker image without that word: gocker images, gocker rmi"},
		{"import", "gocker does not import: load takes images with their configuration"},
		{"login", "gocker does not log in: it uses what docker login has stored"},
		{"logout", "gocker does not log out: docker logout does"},
		{"manifest", "gocker does not make manifest lists"},
		{"network", "gocker has the networks bridge, none, host and container:NAME, and none of other names"},
		{"node", "gocker runs on one host, without swarm"},
		{"plugin", "gocker has no plugins"},
		{"push", "gocker does not push: save an image, and let docker or skopeo push it"},
		{"search", "gocker does not search registries"},
		{"secret", "gocker runs on one host, without swarm"},
		{"service", "gocker runs on one host, without swarm"},
		{"stack", "gocker runs on one host, without swarm"},
		{"swarm", "gocker runs on one host, without swarm"},
		{"trust", "gocker does not sign images"},
		{"update", "gocker does not change the limits of a container: make a new one"},
	}
	var commands []*cobra.Command
	for _, r := range reasons {
		commands = append(commands, &cobra.Command{
			Use:                r.name,
			Short:              "Not in gocker",
			Hidden:             true,
			DisableFlagParsing: true, // whatever comes, this is the answer
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("%s: %s", r.name, r.reason)
			},
		})
	}
	return commands
}
