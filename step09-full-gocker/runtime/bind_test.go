package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestMain starts the tests once more, as root in a mount namespace of their own.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("SWAP") != "":
		swapForever(os.Getenv("SWAP"))
	case os.Getenv("IN_NAMESPACE") != "":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
		if err := unix.Mount("none", "/mnt", "tmpfs", 0, ""); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	case os.Geteuid() != 0:
		fmt.Println("only root can mount: skipped")
		os.Exit(0)
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), "IN_NAMESPACE=1")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := again.Run(); err != nil {
		os.Exit(1)
	}
}

// newRoot makes a root directory, beside a directory outside that nothing may get to.
func newRoot(t *testing.T) (dir string, root int) {
	t.Helper()
	dir, err := os.MkdirTemp("/mnt", "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "outside", "source"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/source/file", "content")
	root, err = unix.Open(dir+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(root)
		for unmountOneBelow(dir) {
		}
		if entries, err := os.ReadDir(dir + "/outside"); err != nil || len(entries) > 0 {
			t.Errorf("outside has %v, %v", entries, err)
		}
		os.RemoveAll(dir)
	})
	return dir, root
}

// mountsBelow are the lines of mountinfo for mount points below dir.
func mountsBelow(dir string) (lines []string) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.HasPrefix(strings.Fields(line)[4], dir+"/") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func unmountOneBelow(dir string) bool {
	lines := mountsBelow(dir)
	if len(lines) == 0 {
		return false
	}
	return unix.Unmount(strings.Fields(lines[len(lines)-1])[4], unix.MNT_DETACH) == nil
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func bind(source, destination string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: destination, Options: append(options, "rbind")}
}

func TestMissingMountPointsAreMade(t *testing.T) {
	dir, root := newRoot(t)
	for _, m := range []specs.Mount{bind(dir+"/source", "/a/b/c"), bind(dir+"/source/file", "/d/e")} {
		if err := mountInRoot(root, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"a/b/c/file", "d/e"} {
		if got, err := os.ReadFile(dir + "/root/" + file); string(got) != "content" {
			t.Errorf("%s has %q, %v", file, got, err)
		}
	}
}

func TestLinksStayInRoot(t *testing.T) {
	dir, root := newRoot(t)
	for link, target := range map[string]string{
		"abs":    dir + "/outside",
		"up":     "../../../../../.." + dir + "/outside",
		"broken": "/run/later/../x",
		"chain":  "up/deeper",
		"loop":   "loop",
	} {
		if err := os.Symlink(target, dir+"/root/"+link); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"abs", "up", "abs/sub", "up/sub", "chain", "broken", "broken/sub", "../../x"} {
		if err := mountInRoot(root, bind(dir+"/source", "/"+name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := mountInRoot(root, bind(dir+"/source", "/loop")); err == nil {
		t.Error("a loop of links is a mount point")
	}
	for _, line := range mountsBelow(dir) {
		if !strings.HasPrefix(strings.Fields(line)[4], dir+"/root/") {
			t.Error("mounted outside:", line)
		}
	}
	for _, file := range []string{dir + "/outside/sub/file", "/run/x/sub/file", "/x/file"} {
		if _, err := os.Stat(dir + "/root" + file); err != nil {
			t.Error(err)
		}
	}
}

func TestProcIsLeftAlone(t *testing.T) {
	dir, root := newRoot(t)
	os.Symlink("/proc/self/attr", dir+"/root/attr")
	os.Symlink("/proc/self/cwd/x", dir+"/root/cwd")
	os.Symlink("/proc", dir+"/root/link")
	if err := mountInRoot(root, specs.Mount{Type: "proc", Source: "proc", Destination: "/link"}); err == nil {
		t.Error("a link is where proc is mounted")
	}
	os.Mkdir(dir+"/root/proc", 0o755)
	if err := mountInRoot(root, bind(dir+"/source", "/link")); err == nil {
		t.Error("mounted on /proc")
	}
	if err := mountInRoot(root, specs.Mount{Type: "proc", Source: "proc", Destination: "/proc"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/attr", "/cwd", "/link", "/proc/sys", "/proc", "/proc/self/fd/0"} {
		if err := mountInRoot(root, bind(dir+"/source", name)); err == nil {
			t.Errorf("mounted on %s", name)
		}
	}
	if err := mountInRoot(root, bind(dir+"/source/file", "/proc/uptime")); err != nil {
		t.Error(err)
	}
}

func TestFileAndDirectoryDoNotMix(t *testing.T) {
	dir, root := newRoot(t)
	os.Mkdir(dir+"/root/dir", 0o755)
	write(t, dir+"/root/file", "")
	for _, m := range []specs.Mount{bind(dir+"/source", "/file"), bind(dir+"/source/file", "/dir")} {
		if err := mountInRoot(root, m); err == nil {
			t.Errorf("%s is mounted on %s", m.Source, m.Destination)
		}
	}
	if err := mountInRoot(root, bind(dir+"/source/file", "/file")); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyAllTheWayDown(t *testing.T) {
	withKernels(t, func(t *testing.T) {
		dir, root := newRoot(t)
		for _, name := range []string{"/source/sub", "/source/sub/with space"} {
			os.Mkdir(dir+name, 0o755)
			if err := unix.Mount("none", dir+name, "tmpfs", unix.MS_NOSUID|unix.MS_NOATIME, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := mountInRoot(root, bind(dir+"/source", "/rro", "rro", "noexec", "rprivate")); err != nil {
			t.Fatal(err)
		}
		if err := mountInRoot(root, bind(dir+"/source", "/ro", "ro")); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{
			"rro": false, "rro/sub": false, "rro/sub/with space": false,
			"ro": false, "ro/sub": true, "ro/sub/with space": true, "../source": true,
		} {
			err := os.WriteFile(filepath.Join(dir, "root", name, "new"), nil, 0o644)
			if (err == nil) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		var fs unix.Statfs_t
		unix.Statfs(dir+"/root/rro/sub", &fs)
		if want := int64(unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NOATIME); fs.Flags&0x40f != want {
			t.Errorf("the flags of sub are %#x, not %#x", fs.Flags, want)
		}
		unix.Statfs(dir+"/root/rro", &fs)
		if want := int64(unix.ST_RDONLY | unix.ST_NOEXEC); fs.Flags&0x40f != want {
			t.Errorf("the flags of rro are %#x, not %#x", fs.Flags, want)
		}
	})
}

// withKernels runs a test as on this kernel, and as on one before Linux 5.12.
func withKernels(t *testing.T, test func(t *testing.T)) {
	t.Run("now", test)
	now := setMountAttr
	setMountAttr = func(int, uint, *unix.MountAttr) error { return unix.ENOSYS }
	defer func() { setMountAttr = now }()
	t.Run("5.10", test)
}

func TestFileSystems(t *testing.T) {
	withKernels(t, func(t *testing.T) {
		dir, root := newRoot(t)
		os.Mkdir(dir+"/root/old", 0o750)
		write(t, dir+"/root/old/file", "")
		lower := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir+"/source", dir+"/up", dir+"/work")
		os.Mkdir(dir+"/up", 0o755)
		os.Mkdir(dir+"/work", 0o755)
		for _, m := range []specs.Mount{
			{Type: "proc", Source: "proc", Destination: "/proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Type: "sysfs", Source: "sysfs", Destination: "/sys", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Type: "tmpfs", Source: "tmpfs", Destination: "/dev", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Type: "devpts", Source: "devpts", Destination: "/dev/pts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Type: "mqueue", Source: "mqueue", Destination: "/dev/mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Type: "tmpfs", Source: "tmpfs", Destination: "/old", Options: []string{"tmpcopyup", "noatime"}},
			{Type: "tmpfs", Source: "tmpfs", Destination: "/new", Options: []string{"rw", "size=1m", "sync"}},
			{Type: "overlay", Source: "overlay", Destination: "/overlay", Options: strings.Split(lower, ",")},
		} {
			if err := mountInRoot(root, m); err != nil {
				t.Error(err)
			}
		}
		mounts := strings.Join(mountsBelow(dir), "\n")
		for _, want := range []string{"/root/sys ro,nosuid,nodev,noexec,relatime - sysfs", "/root/dev rw,nosuid - tmpfs", "/root/old rw,noatime - "} {
			if !strings.Contains(mounts, want) {
				t.Errorf("no %q in\n%s", want, mounts)
			}
		}
		for _, file := range []string{"/old/file", "/overlay/file", "/dev/pts/ptmx"} {
			if _, err := os.Stat(dir + "/root" + file); err != nil {
				t.Error(err)
			}
		}
		if info, err := os.Stat(dir + "/root/old"); err != nil || info.Mode().Perm() != 0o750 {
			t.Error("the mode is not the covered directory's:", info.Mode())
		}
	})
}

func TestWrongOptionsAreRefused(t *testing.T) {
	dir, root := newRoot(t)
	for _, m := range []specs.Mount{
		bind(dir+"/source", "/x", "size=1m"), bind(dir+"/source", "/x", "bogus"), bind(dir+"/source", "/x", "tmpcopyup"),
		bind(dir+"/nosuch", "/x"), {Type: "tmpfs", Destination: "/x", Options: []string{"bogus"}}, {Type: "bogus", Destination: "/x"},
	} {
		err := mountInRoot(root, m)
		if err == nil {
			t.Errorf("%v is mounted", m)
		}
		t.Log(err)
	}
}

func TestPropagation(t *testing.T) {
	dir, root := newRoot(t)
	if err := unix.Mount("none", dir+"/source", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir+"/source", "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"rprivate", "rslave", "rshared"} {
		if err := mountInRoot(root, bind(dir+"/source", "/"+kind, kind)); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(dir+"/source/later", 0o755)
	if err := unix.Mount("none", dir+"/source/later", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/source/later/file", "")
	for kind, want := range map[string]bool{"rprivate": false, "rslave": true, "rshared": true} {
		if _, err := os.Stat(dir + "/root/" + kind + "/later/file"); (err == nil) != want {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// swapForever exchanges the directory root/a/b and a link that leads out of root.
func swapForever(dir string) {
	for {
		unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
	}
}

func TestNoRaceLeadsOut(t *testing.T) {
	dir, root := newRoot(t)
	os.Mkdir(dir+"/outside/b", 0o755)
	os.Mkdir(dir+"/root/a", 0o755)
	os.Symlink("../outside", dir+"/root/link")
	swapper := exec.Command("/proc/self/exe")
	swapper.Env = append(os.Environ(), "SWAP="+dir+"/root")
	if err := swapper.Start(); err != nil {
		t.Fatal(err)
	}
	defer swapper.Wait()
	defer swapper.Process.Kill()
	inside := 0
	for i := range 2000 {
		name := fmt.Sprintf("/a/b%d", i%10)
		err := mountInRoot(root, bind(dir+"/source", name))
		if err == nil {
			inside++
		}
		for _, line := range mountsBelow(dir) {
			if !strings.HasPrefix(strings.Fields(line)[4], dir+"/root/") {
				t.Fatal("mounted outside:", line)
			}
		}
		for unmountOneBelow(dir) {
		}
	}
	if inside < 100 {
		t.Errorf("only %d of 2000 mounts succeeded", inside)
	}
	os.Remove(dir + "/outside/b")
	t.Logf("%d of 2000 mounts succeeded, none of them outside", inside)
}
