// Package scripts tests the shell scripts in this directory.
package scripts

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHelp runs every script, and every Go program, with --help: it must say what it is
// for, and do nothing else.
func TestHelp(t *testing.T) {
	var scripts []string
	for _, root := range []string{".", "../.ci"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if info, err := entry.Info(); err != nil || info.Mode()&0o100 != 0 {
				scripts = append(scripts, path)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(scripts) < 10 {
		t.Fatalf("only %q are scripts", scripts)
	}
	// A script finds here what it takes to print its help. Whatever else it does fails.
	bin := t.TempDir()
	for _, name := range []string{"bash", "sed", "dirname", "realpath"} {
		program, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, "..")
	for _, script := range scripts {
		for _, flag := range []string{"--help", "-h"} {
			help(t, exec.Command("bash", script, flag), "PATH="+bin)
		}
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil || len(programs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, program := range programs {
		help(t, exec.Command("go", "run", "./"+filepath.Dir(program), "--help"), os.Environ()...)
	}
	if after := files(t, ".."); after != before {
		t.Errorf("--help changes the repository; before:\n%s\nafter:\n%s", before, after)
	}
}

// help runs cmd, which must print something to stdout and nothing to stderr.
func help(t *testing.T, cmd *exec.Cmd, env ...string) {
	t.Helper()
	home := t.TempDir()
	cmd.Env = append(env, "TMPDIR="+t.TempDir())
	if len(env) == 1 { // go wants the cache that it has
		cmd.Env = append(cmd.Env, "HOME="+home)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%q: %v", cmd.Args, err)
	}
	if len(stdout.String()) < 60 || stderr.Len() > 0 {
		t.Errorf("%q prints:\n%s\nand to stderr:\n%s", cmd.Args, stdout.String(), stderr.String())
	}
	if left := files(t, home); left != "" {
		t.Errorf("%q leaves in $HOME:\n%s", cmd.Args, left)
	}
}

// files lists what is in dir, with sizes and times, but not git's own files.
func files(t *testing.T, dir string) string {
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if info, err := entry.Info(); err == nil && !entry.IsDir() {
			fmt.Fprintln(&list, path, info.Mode(), info.Size(), info.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// TestClean runs scripts/clean in a host of its own: with its own mounts, its own
// network, its own processes, and of the cgroups only those below a new one.
func TestClean(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can make a host for it; run the test with sudo")
	}
	cgroup := newCgroup(t)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--mount-proc",
		"bash", "testdata/clean.sh", cgroup)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// newCgroup makes a cgroup in one of the host's hierarchies, whichever that is.
func newCgroup(t *testing.T) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	hierarchy := ""
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if fields[2] == "cgroup2" || fields[2] == "cgroup" && hierarchy == "" {
			hierarchy = fields[1]
		}
	}
	dir := filepath.Join(hierarchy, fmt.Sprintf("gocker-clean-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("find", dir, "-depth", "-type", "d", "-delete").Run()
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s stays", dir)
		}
	})
	return dir
}
