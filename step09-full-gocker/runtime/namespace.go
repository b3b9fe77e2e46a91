package runtime

import (
	"fmt"
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaceFlags are clone(2)'s names for the OCI runtime specification's: config-linux.md, Namespaces.
var namespaceFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
}

// newNamespaces are those that the child is born in. A cgroup namespace is made later: its root is
// the cgroup that its maker is in.
func newNamespaces(s *specs.Spec) (flags uintptr) {
	for _, ns := range s.Linux.Namespaces {
		if ns.Path == "" && ns.Type != specs.CgroupNamespace {
			flags |= namespaceFlags[ns.Type]
		}
	}
	return flags
}

// hasNew tells whether the container gets a namespace of that type for itself.
func hasNew(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			return ns.Path == ""
		}
	}
	return false
}

// inPIDNamespace calls start in the PID namespace that s names by a path, or just calls it. Who enters
// one stays outside, and the children are born inside: setns(2), pid_namespaces(7). This is true
// of one thread.
func inPIDNamespace(s *specs.Spec, start func() (*child, error)) (c *child, err error) {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace && ns.Path != "" {
			return onOwnThread(func() (*child, error) {
				if err := joinNamespace(ns); err != nil {
					return nil, err
				}
				return start()
			})
		}
	}
	return start()
}

// onOwnThread calls f on a thread that nothing else ever runs on, and that stays: its end would be
// that of a child which it has started, PR_SET_PDEATHSIG in prctl(2).
func onOwnThread(f func() (*child, error)) (c *child, err error) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		c, err = f()
		close(done)
		select {}
	}()
	<-done
	return c, err
}

// joinNamespaces enters those that s names by their paths, but for the one of PIDs.
func joinNamespaces(s *specs.Spec) error {
	for _, ns := range s.Linux.Namespaces {
		if ns.Path != "" && ns.Type != specs.PIDNamespace {
			if err := joinNamespace(ns); err != nil {
				return err
			}
		}
	}
	return nil
}

func joinNamespace(ns specs.LinuxNamespace) error {
	file, err := os.Open(ns.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), int(namespaceFlags[ns.Type])); err != nil {
		return fmt.Errorf("setns %s: %w", ns.Path, err)
	}
	return nil
}
