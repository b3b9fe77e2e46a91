package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

// run runs the container from its start to its end, calls started in between, and returns its exit
// status. It is the story of a container: spec, create, connect, start, wait, finish.
func (c *container) run(s streams, signals *signals, started func()) (status int, err error) {
	lock, err := lockAgain(c)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if c.running() || c.monitored() {
		return 0, fmt.Errorf("container %s is already running", c.ID)
	}
	if err := c.claimMonitor(); err != nil {
		return 0, err
	}
	r, io, err := c.start(s, signals)
	if err != nil {
		c.Error = err.Error()
		c.ExitCode = statusOf(err)
		return 0, errors.Join(err, c.finish(c.ExitCode))
	}
	lock.Close()
	started()

	// Wait.
	signals.handler <- func(n unix.Signal) { io.handOn(n, r) }
	how, err := r.Wait()
	io.close()
	if err != nil {
		return 0, err
	}
	status = exitStatus(how)
	if lock, err = c.lock(); err != nil {
		return 0, err
	}
	defer lock.Close()
	if now, err := loadContainer(c.ID); err == nil {
		*c = *now // another gocker may have renamed it
	}
	if err := c.finish(status); err != nil {
		return 0, err
	}
	if c.HostConfig.AutoRemove {
		err := removeLocked(c, true)
		lock.Close()
		return status, errors.Join(err, releaseImage(c.ImageID))
	}
	return status, nil
}

// exitStatus is what a shell makes of how a process has ended: 128+n if signal n ended it.
func exitStatus(how unix.WaitStatus) int {
	if how.Signaled() {
		return 128 + int(how.Signal())
	}
	return how.ExitStatus()
}

// start starts the container up to the point at which its command runs.
func (c *container) start(s streams, signals *signals) (*runtime.Container, *stdio, error) {
	store, err := lockStore(false) // no layer goes away meanwhile
	if err != nil {
		return nil, nil, err
	}
	defer store.Close()
	img, err := findImage(c.ImageID)
	if err != nil {
		return nil, nil, err
	}
	if err := prepareNetwork(c); err != nil {
		return nil, nil, err
	}
	root, err := c.mountRoot(img.layerDirs())
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()

	// Spec.
	spec, err := makeSpec(c, img, root)
	if err != nil {
		return nil, nil, err
	}
	content, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return nil, nil, err
	}
	if err := replaceFile(filepath.Join(c.dir(), "config.json"), content, 0o600, false); err != nil { // each start makes it again
		return nil, nil, err
	}

	// Create, and connect while the rest is made.
	io, err := openStdio(c, s)
	if err != nil {
		return nil, nil, err
	}
	r, err := runtime.Create(signals, runtime.Options{
		ID: c.ID, Bundle: c.dir(), Spec: spec, Root: root, Stdio: io.theirs,
		Connect: func(pid int) error { return connect(c, pid) },
	})
	io.closeTheirs()
	if err != nil {
		io.close()
		return nil, nil, err
	}
	io.start(r.Console())

	// Start.
	c.Started, c.Error, c.ExitCode, c.OOM = time.Now().UTC(), "", 0, false
	if err := c.save(); err != nil {
		return nil, nil, err
	}
	if err := r.Start(); err != nil {
		c.Started = time.Time{}
		if !c.Finished.IsZero() { // it has run before
			c.Started = c.Finished
		}
		io.close()
		return nil, nil, err
	}
	return r, io, nil
}

// spec prints the config.json that the container's init executes.
func specOf(name string) error {
	c, err := findContainer(name)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(c.dir(), "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("container %s has not been started yet", c.Name)
	}
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(content, '\n'))
	return err
}
