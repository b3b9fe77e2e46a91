package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	dockercontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"gocker/step09-full-gocker/runtime"
)

const (
	storeDir      = "/var/lib/gocker"
	containersDir = storeDir + "/containers" // ID/, where ID is 64 hexadecimal digits
	namesDir      = storeDir + "/names"      // NAME, a symbolic link to ID: who makes it has the name
	runDir        = "/run/gocker"            // what is true until the host is switched off
)

// A container is what the engine knows of one: ID/container.json. What can be seen of its process
// is not in it: status asks the runtime.
type container struct {
	ID         string
	Name       string
	Created    time.Time
	ImageName  string                      // as the user wrote it
	ImageID    string                      // sha256:HEX
	Config     *dockercontainer.Config     // the image's, with what run's flags say instead
	HostConfig *dockercontainer.HostConfig // what run's flags say of the host's side
	Mounts     []dockercontainer.MountPoint
	Network    network // as connect has made it; zero while it does not run

	Started  time.Time // the last time; zero if never
	Finished time.Time // the last time; before Started while it runs
	ExitCode int       // of the last run
	OOM      bool      // the kernel has killed a process of it for want of memory
	Error    string    // why it could not be started
	Removing bool      // rm has begun
}

// dir is where everything of the container is.
func (c *container) dir() string { return filepath.Join(containersDir, c.ID) }

// newID returns 64 random hexadecimal digits.
func newID() string {
	id := make([]byte, 32)
	rand.Read(id) // never fails: crypto/rand
	return hex.EncodeToString(id)
}

// shortID is what ps shows of an ID.
func shortID(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }

// createContainer gives c its directory and its name, both of which it must have and nobody else
// may. Other gockers see it when all of it is there, or not at all.
func createContainer(c *container) error {
	if err := os.MkdirAll(namesDir, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir()+"/merged", 0o700); err != nil {
		return err
	}
	if err := takeName(c.Name, c.ID); err != nil {
		return errors.Join(err, removeTree(c.dir()))
	}
	if err := c.save(); err != nil {
		return errors.Join(err, os.Remove(filepath.Join(namesDir, c.Name)), removeTree(c.dir()))
	}
	return nil
}

// takeName gives the name to the container id, unless another one has it.
func takeName(name, id string) error {
	link := filepath.Join(namesDir, name)
	for {
		err := os.Symlink(id, link)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		owner, err := os.Readlink(link)
		if err == nil {
			if _, err := os.Stat(filepath.Join(containersDir, owner)); err == nil {
				return fmt.Errorf("Conflict. The container name %q is already in use by container %q. "+
					"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
			}
			os.Remove(link) // of one that was killed while it was created or removed
		}
	}
}

// save replaces container.json by what c is now: it is the old or the new one, whole, whatever
// happens meanwhile.
func (c *container) save() error {
	content, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	// One that goes with its end need not outlast a power cut.
	return replaceFile(filepath.Join(c.dir(), "container.json"), content, 0o600, !c.HostConfig.AutoRemove)
}

// replaceFile gives the file path new content, all at once. If it is to be durable, it is on the disk
// before it has the name: fsync(2), which takes the disk's time.
func replaceFile(path string, content []byte, mode os.FileMode, durable bool) error {
	partial, err := os.CreateTemp(filepath.Dir(path), ".partial-")
	if err != nil {
		return err
	}
	defer os.Remove(partial.Name()) // which is not there any more if all goes well
	_, err = partial.Write(content)
	if err == nil {
		err = partial.Chmod(mode)
	}
	if err == nil && durable {
		err = partial.Sync()
	}
	if e := partial.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(partial.Name(), path)
}

// loadContainer returns the container id, a whole one.
func loadContainer(id string) (*container, error) {
	content, err := os.ReadFile(filepath.Join(containersDir, id, "container.json"))
	if err != nil {
		return nil, err
	}
	c := &container{}
	if err := json.Unmarshal(content, c); err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	return c, nil
}

// noContainer is the error for a name that is nobody's.
type noContainer string

func (n noContainer) Error() string { return "No such container: " + string(n) }

// findContainer returns the one container whose name or ID is name, or else whose ID begins with it.
func findContainer(name string) (*container, error) {
	id := name
	if owner, err := os.Readlink(filepath.Join(namesDir, filepath.Base("/"+strings.TrimPrefix(name, "/")))); err == nil {
		id = owner
	} else if len(name) < 64 {
		entries, _ := os.ReadDir(containersDir) // which is not there before the first container
		var found []string
		for _, entry := range entries {
			if name != "" && strings.HasPrefix(entry.Name(), name) {
				found = append(found, entry.Name())
			}
		}
		if len(found) > 1 {
			return nil, fmt.Errorf("multiple IDs found with provided prefix: %s", name)
		}
		if len(found) == 0 {
			return nil, noContainer(name)
		}
		id = found[0]
	}
	c, err := loadContainer(filepath.Base(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, noContainer(name)
	}
	if err != nil {
		return nil, err
	}
	return c, c.reconcile()
}

// listContainers returns all containers, the newest first.
func listContainers() ([]*container, error) {
	entries, err := os.ReadDir(containersDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all []*container
	for _, entry := range entries {
		c, err := loadContainer(entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // it is just being created or removed
		}
		if err == nil {
			err = c.reconcile()
		}
		if errors.As(err, new(noContainer)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *container) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// The states of a container are docker's.
const (
	stateCreated = dockercontainer.StateCreated
	stateRunning = dockercontainer.StateRunning
	statePaused  = dockercontainer.StatePaused
	stateExited  = dockercontainer.StateExited
)

// state tells what can be seen of the container: whether its process is there, and goes on.
func (c *container) state() dockercontainer.ContainerState {
	r, err := runtime.Load(c.ID)
	switch {
	case err == nil && r.Running():
		if r.Paused() {
			return statePaused
		}
		return stateRunning
	case c.Started.IsZero():
		return stateCreated
	}
	return stateExited
}

// running tells whether the container's process is there, paused or not.
func (c *container) running() bool { return c.pid() != 0 }

// pid is that of the container's process 1 on the host, or 0.
func (c *container) pid() int {
	if r, err := runtime.Load(c.ID); err == nil && r.Running() {
		return r.PID
	}
	return 0
}

// lock waits until no other gocker changes the container (starts, renames or removes it). Closing
// the file unlocks: flock(2).
func (c *container) lock() (*os.File, error) { return lockDir(c.dir(), unix.LOCK_EX) }

// lockAgain waits until nobody else changes c, and reads it again: what others have changed
// meanwhile is then in it. If it was removed, the error is noContainer.
func lockAgain(c *container) (*os.File, error) {
	lock, err := c.lock()
	if err == nil {
		var now *container
		if now, err = loadContainer(c.ID); err == nil {
			*c = *now
			return lock, nil
		}
		lock.Close()
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, noContainer(c.Name)
	}
	return nil, err
}
