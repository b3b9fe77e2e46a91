package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// A state is what other gockers have to know of a container to enter it: where it is, and what,
// but only with that environment that its image gives it. exec sends it to enter, after a pidfd,
// with the command that is to enter.
type state struct {
	spec
	PID       int    // of its process 1, on the host
	StartTime string // of that process, in clock ticks since the host's boot
}

// stateDir is the directory of the state of container id. It is gone after a reboot.
func stateDir(id string) string { return runDir + "/containers/" + id }

// publish lets other gockers find s, when all of it is written.
func (s state) publish() (err error) {
	if s.StartTime, err = startTime(s.PID); err != nil {
		return err
	}
	content, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir(s.ID), 0o700); err != nil {
		return err
	}
	partial := stateDir(s.ID) + "/partial"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, stateDir(s.ID)+"/state.json")
}

// findState returns the state of the one container whose ID begins with prefix.
func findState(prefix string) (s state, err error) {
	entries, _ := os.ReadDir(stateDir("")) // which is not there before the first container
	var found []string
	for _, entry := range entries {
		if prefix != "" && strings.HasPrefix(entry.Name(), prefix) {
			found = append(found, entry.Name())
		}
	}
	if len(found) == 0 {
		return s, fmt.Errorf("no running container has an ID that begins with %q; one that has ended is gone", prefix)
	}
	if len(found) > 1 {
		return s, fmt.Errorf("several containers have an ID that begins with %q: %s", prefix, strings.Join(found, ", "))
	}
	content, err := os.ReadFile(stateDir(found[0]) + "/state.json")
	if err != nil {
		return s, fmt.Errorf("container %s has not started yet, or has ended", found[0])
	}
	err = json.Unmarshal(content, &s)
	return s, err
}

// startTime returns when the process pid began to be, in clock ticks since boot: "starttime" in
// proc(5), /proc/PID/stat. PIDs are used again; the two together are not.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The 22nd field; the 20th after the name, which is in parentheses and may have others in it.
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	return fields[19], nil
}
