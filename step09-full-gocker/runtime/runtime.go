// Package runtime runs containers as the OCI runtime specification describes them: a bundle, which
// is a directory with a config.json, becomes a process in namespaces, cgroups and a root file system
// of its own. Where the bundle comes from, and what its network is connected to, it does not know.
package runtime

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// stateRoot has a directory for every container, by its ID: state.json and start.sock.
const stateRoot = "/run/gocker/runtime"

// Options say what to create.
type Options struct {
	ID     string
	Bundle string      // the directory with config.json; relative paths in it start there
	Spec   *specs.Spec // that config.json
	Root   *os.File    // a detached mount (open_tree(2)) that takes the place of Spec.Root.Path; or nil
	Stdio  [3]*os.File // the process's; unused with Spec.Process.Terminal
	// Connect is called as soon as there are namespaces, while init goes on furnishing them, with the
	// process that is in them. An error ends the creation. OCI has the hook createRuntime there.
	Connect func(pid int) error
	Detach  bool // the process outlives this one; otherwise the kernel kills it with its creator
}

// A Container is one that was created and not deleted. The fields are its state.json.
type Container struct {
	ID        string
	Bundle    string
	PID       int    // of its process, on the host
	StartTime string // of that process, in clock ticks since boot: a PID may be another's one day
	Spec      *specs.Spec

	console *os.File // the terminal's other end, or nil
	child   *child   // only where it was created
}

// The exit statuses that are the runtime's rather than the command's, which docker took from the
// shell (POSIX XCU 2.8.2).
const (
	StatusFailed        = 125
	StatusNotExecutable = 126 // the command was found but could not be executed
	StatusNotFound      = 127
)

// A Failure is an error with an exit status.
type Failure struct {
	Err    error
	Status int
}

func (f Failure) Error() string { return f.Err.Error() }
func (f Failure) Unwrap() error { return f.Err }
