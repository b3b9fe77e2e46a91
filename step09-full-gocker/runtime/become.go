package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// become makes this process, whose parent lets it begin, what p says, and the command of p. It is the
// end of init's way and of enter's. It returns only if it fails.
//
// Capabilities, filters and the parent-death signal are a thread's: all of this is done by the main
// thread, which is the one that goes on as the command, and by system calls that the Go runtime does
// not carry out on the others.
func become(caller *parent, s *specs.Spec, p *specs.Process, console *os.File) error {
	var filter []unix.SockFilter
	var err error
	if s.Linux.Seccomp != nil {
		if filter, err = compileSeccomp(s.Linux.Seccomp); err != nil {
			return err
		}
	}
	if err := setRlimits(p.Rlimits); err != nil {
		return err
	}
	if err := setOOMScore(p.OOMScoreAdj); err != nil {
		return err
	}
	if err := dropBounding(p.Capabilities); err != nil {
		return err
	}
	if err := keepCapabilities(); err != nil {
		return err
	}
	reached := changeDir(p.Cwd) // as root; what only the user may enter comes below
	if err := setUser(p.User); err != nil {
		return err
	}
	if errors.Is(reached, unix.EACCES) {
		reached = changeDir(p.Cwd)
	}
	if reached != nil {
		return reached
	}
	files, err := findCommand(p.Args[0], getenv(p.Env, "PATH"))
	if err != nil {
		return err
	}
	if err := caller.ready(console); err != nil {
		return err
	}

	if err := forgetSignals(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, which the command will hardly have: so it
	// is loaded before the capabilities go, seccomp(2).
	if s.Linux.Seccomp != nil {
		if err := loadSeccomp(filter, s.Linux.Seccomp.Flags); err != nil {
			return err
		}
	}
	if err := applyCapabilities(p.Capabilities); err != nil {
		return err
	}
	return execve(files, p.Args, p.Env)
}

// changeDir makes dir the working directory. It must be in the root directory: getcwd(2) puts
// "(unreachable)" before the path of one that is not (CVE-2024-21626).
func changeDir(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("chdir to cwd (%q): %w", dir, err)
	}
	path := make([]byte, unix.PathMax)
	if _, err := unix.Getcwd(path); err != nil || path[0] != '/' {
		return fmt.Errorf("chdir to cwd (%q): it is outside of the container", dir)
	}
	return nil
}

// setOOMScore sets how soon the kernel kills this process for want of memory: proc(5), oom_score_adj.
func setOOMScore(score *int) error {
	if score == nil {
		return nil
	}
	return os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, *score), 0)
}
