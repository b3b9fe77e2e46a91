package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// changeNames are the instructions of a Dockerfile that commit -c knows.
var changeNames = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "USER", "VOLUME", "WORKDIR", "STOPSIGNAL"}

// applyChange does to config what an instruction of a Dockerfile says, and returns its name. An
// ENTRYPOINT drops the CMD that was there before, unless a change has set that: hasCmd.
func applyChange(config *dockerspec.DockerOCIImageConfig, change string, hasCmd bool) (name string, err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(change), " ")
	name, rest = strings.ToUpper(name), strings.TrimSpace(rest)
	if !slices.Contains(changeNames, name) {
		return name, fmt.Errorf("%s is not a valid change command", name)
	}
	switch name {
	case "CMD":
		config.Cmd = commandLine(rest, config.Shell)
		return name, nil
	case "ENTRYPOINT":
		config.Entrypoint = commandLine(rest, config.Shell)
		if !hasCmd {
			config.Cmd = nil
		}
		return name, nil
	}
	// Quotes keep words together, and $NAME is what ENV says so far.
	words, err := shell.NewLex('\\').ProcessWords(rest, shell.EnvsFromSlice(config.Env))
	if err != nil {
		return name, err
	}
	if len(words) == 0 {
		return name, fmt.Errorf("%s requires an argument", name)
	}
	switch name {
	case "ENV":
		pairs, err := keyValues(words)
		if err != nil {
			return name, err
		}
		for _, pair := range pairs {
			config.Env = slices.DeleteFunc(config.Env, func(old string) bool { return strings.HasPrefix(old, pair[0]+"=") })
			config.Env = append(config.Env, pair[0]+"="+pair[1])
		}
	case "LABEL":
		pairs, err := keyValues(words)
		if err != nil {
			return name, err
		}
		config.Labels = with(config.Labels, nil)
		for _, pair := range pairs {
			config.Labels[pair[0]] = pair[1]
		}
	case "EXPOSE":
		ports, _, err := nat.ParsePortSpecs(words)
		if err != nil {
			return name, err
		}
		for port := range ports {
			config.ExposedPorts = with(config.ExposedPorts, []string{string(port)})
		}
	case "VOLUME":
		var list []string
		if json.Unmarshal([]byte(rest), &list) == nil {
			words = list
		}
		config.Volumes = with(config.Volumes, words)
	case "USER":
		config.User = words[0]
	case "WORKDIR":
		dir := strings.Join(words, " ")
		if !path.IsAbs(dir) {
			dir = path.Join("/", config.WorkingDir, dir)
		}
		config.WorkingDir = path.Clean(dir)
	case "STOPSIGNAL":
		if _, err := signal.ParseSignal(words[0]); err != nil {
			return name, err
		}
		config.StopSignal = words[0]
	}
	return name, nil
}

// with returns a copy of set with the keys.
func with[V any](set map[string]V, keys []string) map[string]V {
	set = maps.Clone(set)
	if set == nil {
		set = map[string]V{}
	}
	for _, key := range keys {
		var zero V
		set[key] = zero
	}
	return set
}

// commandLine reads what follows CMD or ENTRYPOINT: a JSON array, or a line for a shell.
func commandLine(text string, shellCommand []string) []string {
	var words []string
	if json.Unmarshal([]byte(text), &words) == nil {
		return words
	}
	if len(shellCommand) == 0 {
		shellCommand = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shellCommand), text)
}

// keyValues reads KEY=VALUE..., or KEY VALUE with one value of several words.
func keyValues(words []string) (pairs [][2]string, err error) {
	if !strings.Contains(words[0], "=") {
		if len(words) == 1 {
			return nil, fmt.Errorf("%q has no value", words[0])
		}
		return [][2]string{{words[0], strings.Join(words[1:], " ")}}, nil
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("syntax error: can't find = in %q. Must be of the form: name=value", word)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}
