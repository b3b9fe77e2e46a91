package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/continuity/fs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Init is the child's half of Create: it is alone in its new namespaces, furnishes them and becomes
// the command. It returns only if it is not Create that has started it.
func Init() error {
	caller, err := findParent("init")
	if err != nil {
		return err
	}
	caller.listener = startFD
	var o order
	if err := caller.receive(&o); err != nil {
		caller.fail(err)
	}
	console, err := furnish(o)
	if err != nil {
		caller.fail(err)
	}
	caller.fail(become(caller, o.Spec, o.Spec.Process, console))
	return nil
}

// furnish makes the new namespaces what o says, and returns the terminal's other end if there is one.
// The order is the specification's as far as that has one: runtime.md, config-linux.md.
func furnish(o order) (console *os.File, err error) {
	s := o.Spec
	unix.CloseOnExec(startFD)
	if o.Root {
		unix.CloseOnExec(rootFD)
	}
	if !o.Detach {
		if err := dieWithParent(); err != nil {
			return nil, err
		}
	}
	// No signal of the caller's terminal comes here, and nobody here can type into it: setsid(2).
	if _, err := unix.Setsid(); err != nil {
		return nil, fmt.Errorf("setsid: %w", err)
	}
	if err := joinNamespaces(s); err != nil {
		return nil, err
	}
	cg, err := newCgroup(s.Linux.CgroupsPath)
	if err != nil {
		return nil, err
	}
	if err := cg.join(); err != nil {
		return nil, err
	}
	if hasNew(s, specs.CgroupNamespace) {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return nil, fmt.Errorf("unshare: %w", err)
		}
	}
	if hasNew(s, specs.UTSNamespace) {
		if err := setNames(s); err != nil {
			return nil, err
		}
	}
	if err := mountAll(o, cg); err != nil {
		return nil, err
	}
	if err := setSysctls(s.Linux.Sysctl); err != nil {
		return nil, err
	}
	if s.Process.Terminal {
		console, err = openConsole(s.Process.ConsoleSize, true)
		if err != nil {
			return nil, err
		}
	}
	if err := readonlyPaths(s.Linux.ReadonlyPaths); err != nil {
		return nil, err
	}
	if err := maskPaths(s.Linux.MaskedPaths, s.Linux.MountLabel); err != nil {
		return nil, err
	}
	return console, makeWorkdir(s.Process.Cwd)
}

// makeWorkdir makes the working directory where an image lacks it, as docker does. A link on its way may
// lead to what is not there yet.
func makeWorkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	path, err := fs.RootPath("/", dir)
	if err == nil {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("make the working directory %s: %w", dir, err)
	}
	return nil
}

// dieWithParent lets the kernel kill this process when the thread that has started it ends, whatever
// ends it: prctl(2). The end of process 1 is the end of all others in its PID namespace.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}
