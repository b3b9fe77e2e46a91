package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ipcSysctls are those of an IPC namespace: ipc_namespaces(7).
var ipcSysctls = []string{
	"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
	"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
}

// sysctlPath returns the path below /proc/sys of the kernel parameter key, and the type of the
// namespaces that have it for themselves. The separator is the first "." or "/" there is, and the
// other one is then part of a name: sysctl(8). A parameter of the whole host is an error.
func sysctlPath(key string) (path string, kind specs.LinuxNamespaceType, err error) {
	path = key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		path = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	switch {
	case path != filepath.Clean(path): // it may have "..", which leads elsewhere
	case slices.Contains(ipcSysctls, path), strings.HasPrefix(path, "fs/mqueue/"):
		return path, specs.IPCNamespace, nil
	case strings.HasPrefix(path, "net/"):
		return path, specs.NetworkNamespace, nil
	case path == "kernel/domainname":
		return path, specs.UTSNamespace, nil
	}
	return "", "", fmt.Errorf("sysctl '%s' is not allowed", key)
}

// checkSysctls refuses those of s that would change something outside of the container.
func checkSysctls(s *specs.Spec) error {
	for key := range s.Linux.Sysctl {
		_, kind, err := sysctlPath(key)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind }) {
			return fmt.Errorf("sysctl '%s' is not allowed without a %s namespace of the container's own", key, kind)
		}
	}
	return nil
}

// setSysctls sets kernel parameters of this process's namespaces, through its /proc:
// config-linux.md, Sysctl. One that this kernel does not have is an error.
func setSysctls(sysctls map[string]string) error {
	for key, value := range sysctls {
		path, _, err := sysctlPath(key)
		if err != nil {
			return err
		}
		err = writeFile("/proc/sys/"+path, value)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sysctl '%s': this kernel does not have it: %w", key, err)
		}
		if err != nil {
			return fmt.Errorf("sysctl '%s': %w", key, err)
		}
	}
	return nil
}
