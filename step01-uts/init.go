package main

// A spec says what a container is. run sends it to init.
type spec struct {
	ID   string
	Argv words // the command and its arguments
	Env  words // the command's environment: NAME=VALUE
}

// initContainer is the child's half of run: it is alone in its new namespaces,
// furnishes them and becomes the command. It returns only if it is not run that has
// started it; whatever else goes wrong it tells run, which prints it.
func initContainer() error {
	caller, err := findParent("init", "run")
	if err != nil {
		return err
	}
	var c spec
	if err := caller.receive(&c); err != nil {
		caller.fail(err)
	}
	if err := furnish(c); err != nil {
		caller.fail(err)
	}
	files, err := findCommand(c.Argv[0], getenv(c.Env, "PATH"))
	if err != nil {
		caller.fail(err)
	}
	if err := caller.ready(); err != nil {
		caller.fail(err)
	}
	caller.fail(execve(files, c.Argv, c.Env))
	return nil
}

// furnish makes the new namespaces what c says.
func furnish(c spec) error {
	return setHostname(c.ID)
}
