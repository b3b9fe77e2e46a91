package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/step09-full-gocker/runtime"
)

// execOptions are the flags of exec.
type execOptions struct {
	interactive, tty, detach, privileged bool
	env, envFiles                        []string
	user, workdir                        string
}

func execCommand() *cobra.Command {
	var o execOptions
	command := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Execute a command in a running container",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			status, err := execIn(args[0], args[1:], o)
			return exitWith(status, err)
		},
	}
	flags := command.Flags()
	flags.SetInterspersed(false) // what follows the container's name is not for gocker
	flags.BoolVarP(&o.interactive, "interactive", "i", false, "Keep stdin open")
	flags.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal")
	flags.BoolVarP(&o.detach, "detach", "d", false, "Return at once")
	flags.BoolVar(&o.privileged, "privileged", false, "Give the command all capabilities")
	flags.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	flags.StringArrayVar(&o.envFiles, "env-file", nil, "Read environment variables from a file")
	flags.StringVarP(&o.user, "user", "u", "", "User (name or number, and group: user:group)")
	flags.StringVarP(&o.workdir, "workdir", "w", "", "Working directory in the container")
	return command
}

// execIn executes argv in the container called name, and returns its exit status.
func execIn(name string, argv []string, o execOptions) (int, error) {
	user := ourStreams(o.interactive)
	if o.tty && o.interactive && !o.detach && !term.IsTerminal(0) {
		return 0, failure{errNoTTY, 1}
	}
	c, err := findContainer(name)
	if err != nil {
		return 0, failure{err, 1}
	}
	switch c.state() {
	case statePaused:
		return 0, failure{fmt.Errorf("Container %s is paused, unpause the container before exec", name), 1}
	case stateRunning:
	default:
		return 0, failure{notRunning(c.ID), 1}
	}
	r, err := loadRunning(c)
	if err != nil {
		return 0, failure{err, 1}
	}
	p, err := execProcess(c, r, argv, o)
	if err != nil {
		return 0, err
	}
	signals := catchSignals()
	pipes := &stdio{}
	if o.detach {
		p.Terminal = false // nobody would hold its other end
	} else if pipes, err = newStdio(user, o.tty, o.interactive, [2]io.WriteCloser{}); err != nil {
		return 0, err
	}
	process, err := r.Exec(signals, runtime.ExecOptions{Process: p, Stdio: pipes.theirs, Detach: o.detach})
	pipes.closeTheirs()
	if errors.Is(err, runtime.ErrNotRunning) {
		err = failure{notRunning(c.ID), 1}
	}
	if err != nil {
		pipes.close()
		return 0, err
	}
	if o.detach {
		return 0, nil
	}
	pipes.start(process.Console())
	signals.handler <- func(n unix.Signal) { pipes.handOn(n, process) }
	how, err := process.Wait()
	pipes.close()
	if err != nil {
		return 0, err
	}
	return exitStatus(how), nil
}

// execProcess describes the command for the runtime: it is as the container's own, but for what o says.
func execProcess(c *container, r *runtime.Container, argv []string, o execOptions) (*specs.Process, error) {
	p := *r.Spec.Process
	p.Args = argv
	p.Terminal = o.tty
	p.ConsoleSize = consoleSize(o.tty)
	if o.workdir != "" && !path.IsAbs(o.workdir) {
		return nil, fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", o.workdir)
	}
	if o.workdir != "" {
		p.Cwd = o.workdir
	}
	env, err := readEnv(o.envFiles, o.env)
	if err != nil {
		return nil, err
	}
	root, err := openRootOf(r.PID)
	if err != nil {
		return nil, notRunning(c.ID)
	}
	defer root.Close()
	name := o.user
	if name == "" {
		name = c.Config.User
	}
	user, home, err := userOf(c, root, name)
	if err != nil {
		return nil, err
	}
	p.User = user
	p.Env = slices.DeleteFunc(slices.Clone(p.Env), func(entry string) bool { return hasName(entry, "HOME") && o.user != "" })
	p.Env = addEnv(p.Env, env)
	if !hasEnv(p.Env, "HOME") {
		p.Env = append(p.Env, "HOME="+home)
	}
	if o.tty && !hasEnv(p.Env, "TERM") {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if o.privileged {
		caps, err := capabilities(nil, nil, true)
		if err != nil {
			return nil, err
		}
		p.Capabilities = capabilitySets(caps)
	}
	return &p, nil
}
