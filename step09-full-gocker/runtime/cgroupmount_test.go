package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func init() {
	children["cgroup mounts"] = func() error {
		c, err := newCgroup(os.Getenv("CGROUP"))
		if err != nil {
			return err
		}
		if err := c.join(); err != nil {
			return err
		}
		for _, h := range c.hierarchies {
			if h.isV2() {
				if err := c.move(os.Getpid()); err != nil {
					return err
				}
			}
		}
		own := os.Getenv("OWN") != ""
		if own {
			if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
				return err
			}
		}
		only := os.Getenv("ONLY")
		c.hierarchies = slices.DeleteFunc(c.hierarchies, func(h hierarchy) bool { return only == "v2" && !h.isV2() })
		if err := mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
			return err
		}
		root, err := unix.Open("/mnt", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		m := specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: strings.Split(os.Getenv("OPTIONS"), ",")}
		if err := mountCgroups(root, m, c, own); err != nil {
			return err
		}
		top := "/mnt/sys/fs/cgroup"
		if only == "" {
			err := os.Mkdir(top+"/new", 0o755)
			fmt.Println("mkdir", err == nil)
			top += "/pids"
		}
		text, err := os.ReadFile(top + "/cgroup.procs")
		fmt.Println("processes", strings.Contains("\n"+string(text), fmt.Sprintf("\n%d\n", os.Getpid())) || len(text) > 0, err)
		err = os.Mkdir(top+"/inside", 0o755)
		fmt.Println("cgroup", err == nil)
		os.Remove(top + "/inside")
		inside, _ := filepath.Glob(top + "/gocker*")
		fmt.Println(len(inside))
		return nil
	}
}

func TestAContainerSeesItsOwnCgroupAlone(t *testing.T) {
	for _, one := range []struct{ env, want string }{
		{"OWN=1 OPTIONS=ro", "mkdir false\nprocesses true <nil>\ncgroup false\n0"},
		{"OWN=1 OPTIONS=rw", "mkdir true\nprocesses true <nil>\ncgroup true\n0"},
		{"OPTIONS=ro", "mkdir false\nprocesses true <nil>\ncgroup false\n0"},
		{"OWN=1 OPTIONS=ro ONLY=v2", "processes true <nil>\ncgroup false\n0"},
		{"OPTIONS=rw ONLY=v2", "processes true <nil>\ncgroup true\n0"},
	} {
		t.Run(one.env, func(t *testing.T) {
			c := testCgroup(t, nil, everywhere)
			if len(c.hierarchies) == 1 && !strings.Contains(one.env, "ONLY") {
				t.Skip("this host has no cgroup v1")
			}
			output, _ := inChild(t, "cgroup mounts", append(strings.Fields(one.env), "CGROUP="+c.path)...)
			if output != one.want {
				t.Errorf("%s", output)
			}
		})
	}
}
