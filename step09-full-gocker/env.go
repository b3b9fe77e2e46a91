package main

import (
	"slices"
	"strings"

	"github.com/docker/cli/opts"
)

// readEnv returns the entries of the files and of the flags, docker's --env-file and -e. One without "="
// takes the value from our own environment; if there is none, it is left without, and addEnv removes it.
func readEnv(files, flags []string) ([]string, error) {
	resolved := make([]string, len(flags))
	for i, flag := range flags {
		entry, err := opts.ValidateEnv(flag)
		if err != nil {
			return nil, err
		}
		resolved[i] = entry
	}
	return opts.ReadKVEnvStrings(files, resolved)
}

// overImage returns the entries of the flags, and those of the image that the flags say nothing of.
func overImage(flags, image []string) []string {
	env := addEnv(nil, flags)
	for _, entry := range image {
		name, _, _ := strings.Cut(entry, "=")
		if !hasEnv(flags, name) && !slices.Contains(flags, name) {
			env = append(env, entry)
		}
	}
	return env
}

// addEnv returns env with entries, which take the place of those with the same names. An entry without "="
// takes the old one out.
func addEnv(env, entries []string) []string {
	for _, entry := range entries {
		name, _, isSet := strings.Cut(entry, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return hasName(old, name) })
		if isSet {
			env = append(env, entry)
		}
	}
	return env
}

// hasName tells whether the entry of an environment is for name.
func hasName(entry, name string) bool { return strings.HasPrefix(entry, name+"=") }

// hasEnv tells whether there is an entry for name.
func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(entry string) bool { return hasName(entry, name) })
}
