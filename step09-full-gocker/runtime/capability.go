package runtime

import (
	"fmt"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Capabilities are what root's power consists of: capabilities(7). A thread has five sets of them,
// and what is here changes those of the calling thread alone.

// parseCapabilities returns the capabilities with the given names, like CAP_CHOWN.
func parseCapabilities(names []string) (caps []capability.Cap, err error) {
	for _, name := range names {
		c, ok := parseCapability(name)
		if !ok {
			return nil, fmt.Errorf("unknown capability %q", name)
		}
		caps = append(caps, c)
	}
	return caps, nil
}

func parseCapability(name string) (capability.Cap, bool) {
	short, ok := strings.CutPrefix(name, "CAP_")
	for _, c := range capability.ListKnown() {
		if ok && strings.EqualFold(short, c.String()) {
			return c, true
		}
	}
	return 0, false
}

// dropBounding takes from the bounding set what is not in c's: no execve(2) gives that again,
// whatever the file. Nil has none. It needs CAP_SETPCAP, so it comes before the user changes.
func dropBounding(c *specs.LinuxCapabilities) error {
	if c == nil {
		c = &specs.LinuxCapabilities{}
	}
	bounding, err := parseCapabilities(c.Bounding)
	if err != nil {
		return err
	}
	keep := map[capability.Cap]bool{}
	for _, one := range bounding {
		keep[one] = true
	}
	last, err := capability.LastCap()
	if err != nil {
		return err
	}
	for one := capability.Cap(0); one <= last; one++ {
		if keep[one] {
			continue
		}
		if err := capability.DropBound(one); err != nil {
			return fmt.Errorf("drop capability %s: %w", one, err)
		}
	}
	return nil
}

// keepCapabilities lets the permitted set outlive the change from root to another user, until
// execve(2). setUser makes it effective again: what is left to do needs some.
func keepCapabilities() error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	return nil
}

// useCapabilities makes the permitted set the effective one.
func useCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	data[0].Effective = data[0].Permitted
	data[1].Effective = data[1].Permitted
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// applyCapabilities gives this thread the sets of c, and no others: config.md, Process. Nil has
// none. It comes after the user has changed. Of a user that is not root, execve(2) leaves what is
// ambient.
func applyCapabilities(c *specs.LinuxCapabilities) error {
	if c == nil {
		c = &specs.LinuxCapabilities{}
	}
	set, err := capability.NewPid2(0) // this thread; empty
	if err != nil {
		return err
	}
	for _, one := range []struct {
		kind  capability.CapType
		names []string
	}{
		{capability.EFFECTIVE, c.Effective}, {capability.PERMITTED, c.Permitted},
		{capability.INHERITABLE, c.Inheritable}, {capability.AMBIENT, c.Ambient},
	} {
		caps, err := parseCapabilities(one.names)
		if err != nil {
			return err
		}
		set.Set(one.kind, caps...)
	}
	if err := set.Apply(capability.CAPS | capability.AMBS); err != nil {
		return fmt.Errorf("set capabilities: %w: gocker may not have all that the container is to have", err)
	}
	return nil
}
