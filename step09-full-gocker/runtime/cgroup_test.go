package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func pointer[T any](value T) *T { return &value }

// makeFiles makes files, with their contents, in dir.
func makeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestHierarchiesAreFoundWhereTheyAreMounted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"unified", "cpu,cpuacct", "pids", "with space", "net_cls"} {
		makeFiles(t, filepath.Join(dir, name), map[string]string{"cgroup.procs": ""})
	}
	mountinfo := filepath.Join(dir, "mountinfo")
	lines := []string{
		"30 23 0:29 / DIR/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
		"32 31 0:31 /docker/abc DIR/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
		"33 31 0:32 / DIR/pids rw - cgroup cgroup rw,pids",
		"34 31 0:32 / DIR/pids rw - cgroup cgroup rw,pids",
		"35 31 0:33 / DIR/net_cls rw - cgroup cgroup rw,net_cls",
		`36 31 0:34 / DIR/with\040space rw - cgroup cgroup rw,xattr,memory`,
		"37 31 0:35 / DIR/hidden rw - cgroup cgroup rw,cpuset",
		"38 31 0:36 / DIR/systemd rw - cgroup cgroup rw,xattr,name=systemd",
		"39 31 0:37 / /proc rw - proc proc rw",
	}
	makeFiles(t, dir, map[string]string{"mountinfo": strings.ReplaceAll(strings.Join(lines, "\n"), "DIR", dir)})
	found, err := findHierarchies(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	want := []hierarchy{
		{dir + "/unified", nil}, {dir + "/cpu,cpuacct", []string{"cpu", "cpuacct"}},
		{dir + "/pids", []string{"pids"}}, {dir + "/with space", []string{"memory"}},
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%v, not %v", found, want)
	}
	makeFiles(t, dir, map[string]string{"mountinfo": "39 31 0:37 / /proc rw - proc proc rw\n"})
	if _, err := findHierarchies(mountinfo); err == nil {
		t.Error("no error where there is none")
	}
}

func TestLimitsAreWhatTheFilesOfBothVersionsSay(t *testing.T) {
	for _, one := range []struct {
		r      specs.LinuxResources
		v2, v1 string
	}{
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](64 << 20), Swap: pointer[int64](96 << 20)}},
			"memory.max=67108864 memory.swap.max=33554432", "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=100663296"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](1 << 20), Swap: pointer[int64](1 << 20)}},
			"memory.max=1048576 memory.swap.max=0", "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=1048576"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](1 << 20), Swap: pointer[int64](-1), Reservation: pointer[int64](4096)}},
			"memory.max=1048576 memory.swap.max=max memory.low=4096",
			"memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=-1 memory.soft_limit_in_bytes=4096"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](-1)}},
			"memory.max=max memory.swap.max=max", "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: pointer[int64](50000)}}, "cpu.max=50000 100000", "cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: pointer[int64](-1), Period: pointer[uint64](20000)}}, "cpu.max=max 20000", "cpu.cfs_period_us=20000 cpu.cfs_quota_us=-1"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: pointer[uint64](1024), Cpus: "0", Mems: "0", Idle: pointer[int64](1)}},
			"cpu.weight=100 cpu.idle=1 cpuset.cpus=0 cpuset.mems=0", "cpu.shares=1024 cpu.idle=1 cpuset.cpus=0 cpuset.mems=0"},
		{specs.LinuxResources{Unified: map[string]string{"memory.high": "5M", "io.max": "8:0 rbps=1"}}, "io.max=8:0 rbps=1 memory.high=5M", ""},
		{specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: pointer[uint16](0)}}, "", ""},
	} {
		limits, err := limitsOf(&one.r)
		if err != nil {
			t.Errorf("%s: %v", one.v2, err)
		}
		var v2, v1 []string
		for _, l := range limits {
			for _, s := range l.v2 {
				v2 = append(v2, s.file+"="+s.value)
			}
			for _, s := range l.v1 {
				v1 = append(v1, s.file+"="+s.value)
			}
		}
		if got := strings.Join(v2, " "); got != one.v2 {
			t.Errorf("cgroup v2: %s, not %s", got, one.v2)
		}
		if got := strings.Join(v1, " "); got != one.v1 {
			t.Errorf("cgroup v1: %s, not %s", got, one.v1)
		}
	}
	for _, r := range []specs.LinuxResources{
		{Memory: &specs.LinuxMemory{Limit: pointer[int64](2), Swap: pointer[int64](1)}},
		{Memory: &specs.LinuxMemory{Swap: pointer[int64](1)}},
		{Unified: map[string]string{"../memory.max": "1"}},
		{HugepageLimits: []specs.LinuxHugepageLimit{{}}},
		{BlockIO: &specs.LinuxBlockIO{Weight: pointer[uint16](10)}},
	} {
		if _, err := limitsOf(&r); err == nil {
			t.Errorf("no error for %+v", r)
		}
	}
	for shares, weight := range map[uint64]uint64{2: 1, 1024: 100, 262144: 10000, 512: 59, 2048: 174} {
		if got := cpuWeight(shares); got != weight {
			t.Errorf("%d shares are a weight of %d, not %d", shares, got, weight)
		}
	}
}

// TestAPureCgroupV2 lets a directory play the mount of cgroup v2.
func TestAPureCgroupV2(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc", "cgroup.subtree_control": ""}
	makeFiles(t, root, files)
	makeFiles(t, root+"/gocker", files)
	h := hierarchy{Root: root}
	c := &cgroup{path: "/gocker/x", hierarchies: []hierarchy{h}, pidsLimit: 7}
	if err := c.makeDir(h); err != nil {
		t.Fatal(err)
	}
	if c.dirFD() == nil || c.dirFD().Name() != root+"/gocker/x" {
		t.Errorf("dirFD: %v", c.dirFD())
	}
	for _, dir := range []string{root, root + "/gocker"} {
		if got := content(t, dir+"/cgroup.subtree_control"); got != "+cpuset +cpu +memory +pids" {
			t.Errorf("%s: %s", dir, got)
		}
	}
	if err := c.makeDir(h); !errors.Is(err, os.ErrExist) {
		t.Errorf("a cgroup that somebody has: %v", err)
	}
	leaf := root + "/gocker/x"
	makeFiles(t, leaf, map[string]string{
		"memory.max": "9", "memory.current": "5000\n", "memory.stat": "anon 4\ninactive_file 1000\n", "pids.max": "9", "pids.current": "3\n",
		"cpu.stat": "usage_usec 12\nuser_usec 1\n", "memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
		"cgroup.procs": "10\n11\n", "cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n",
	})
	makeFiles(t, leaf+"/inside", map[string]string{"cgroup.procs": "0\n12\n"})
	for _, name := range []string{"memory.max", "memory.swap.max"} {
		limits, err := limitsOf(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](4096), Swap: pointer[int64](4096)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range limits {
			if err := c.set(l); err != nil {
				t.Errorf("%s: %v", name, err) // no swap is as good as a kernel that does not count it
			}
		}
	}
	if err := c.set(limit{v2: []setting{{"memory.swap.max", "1"}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a limit without a file: %v", err)
	}
	if err := errors.Join(c.setPids(), c.freeze(true), c.join(), c.move(99)); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{"memory.max": "4096", "pids.max": "7", "cgroup.freeze": "1", "cgroup.procs": "99\n11"} {
		if got := content(t, leaf+"/"+file); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	pids, err := c.pids()
	if err != nil || !slices.Equal(pids, []int{99, 11, 12}) {
		t.Errorf("pids: %v, %v", pids, err)
	}
	stats, err := c.stats()
	want := Stats{MemoryUsage: 4000, MemoryLimit: 4096, CPU: 12 * time.Microsecond, PIDs: 3, PIDsLimit: 7, OOMKills: 2}
	if err != nil || stats != want {
		t.Errorf("stats: %+v, %v", stats, err)
	}
}

// testCgroup makes a cgroup for a test, in those hierarchies of this host that which wants.
func testCgroup(t *testing.T, r *specs.LinuxResources, which func(h hierarchy) bool) *cgroup {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may")
	}
	c, err := newCgroup(fmt.Sprintf("/gocker-test-%d/%s", os.Getpid(), strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())))
	if err != nil {
		t.Skip(err)
	}
	c.hierarchies = slices.DeleteFunc(c.hierarchies, func(h hierarchy) bool { return !which(h) })
	if len(c.hierarchies) == 0 {
		t.Skip("this host has no such hierarchy")
	}
	t.Cleanup(func() {
		if err := c.remove(5 * time.Second); err != nil {
			t.Error(err)
		}
		for _, h := range c.hierarchies {
			unix.Rmdir(filepath.Dir(c.dir(h)))
			if _, err := os.Stat(filepath.Dir(c.dir(h))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", filepath.Dir(c.dir(h)), err)
			}
		}
	})
	if err := c.create(r); err != nil {
		t.Fatal(err)
	}
	return c
}

func everywhere(h hierarchy) bool { return true }

// startIn starts a shell in c that does script when it is there.
func startIn(t *testing.T, c *cgroup, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read go; "+script)
	cmd.Stdout = &bytes.Buffer{}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); c.kill(); cmd.Wait() })
	for _, h := range c.hierarchies {
		if err := writeFile(c.dir(h)+"/cgroup.procs", fmt.Sprint(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	stdin.Write([]byte("\n"))
	stdin.Close()
	return cmd
}

func TestACgroupOfThisHost(t *testing.T) {
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: pointer[int64](32 << 20), Swap: pointer[int64](32 << 20)},
		CPU:    &specs.LinuxCPU{Quota: pointer[int64](50000), Period: pointer[uint64](100000), Shares: pointer[uint64](512), Cpus: "0"},
		Pids:   &specs.LinuxPids{Limit: pointer[int64](3)},
	}
	c := testCgroup(t, r, everywhere)
	if err := c.setPids(); err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, c, "sleep 100 & sleep 100 & wait")
	deadline := time.Now().Add(5 * time.Second)
	var stats Stats
	for stats.PIDs != 3 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		stats, _ = c.stats()
	}
	if stats.PIDs != 3 || stats.PIDsLimit != 3 || stats.MemoryLimit != 32<<20 || stats.MemoryUsage == 0 || stats.CPU == 0 || stats.OOMKills != 0 {
		t.Errorf("%+v", stats)
	}
	pids, err := c.pids()
	if err != nil || len(pids) != 3 || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("pids: %v, %v", pids, err)
	}
	if c.frozen() {
		t.Error("frozen")
	}
	if err := c.freeze(true); err != nil {
		t.Fatal(err)
	}
	if !c.frozen() {
		t.Error("not frozen")
	}
	other, err := newCgroup(c.path) // as another gocker would
	if err != nil {
		t.Fatal(err)
	}
	if err := other.remove(5 * time.Second); err != nil { // frozen as it is
		t.Error(err)
	}
}

func TestCgroupV1FreezesToo(t *testing.T) {
	v1 := func(h hierarchy) bool { return !h.isV2() }
	c := testCgroup(t, nil, v1)
	startIn(t, c, "while :; do sleep 0.01; done")
	if err := c.freeze(true); err != nil {
		t.Fatal(err)
	}
	if !c.frozen() {
		t.Error("not frozen")
	}
	if err := c.freeze(false); err != nil || c.frozen() {
		t.Error("still frozen", err)
	}
	if err := errors.Join(c.freeze(true), c.remove(5*time.Second)); err != nil { // frozen as it is
		t.Error(err)
	}
}

func TestWhoIsKilledForWantOfMemoryIsCounted(t *testing.T) {
	c := testCgroup(t, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer[int64](8 << 20), Swap: pointer[int64](8 << 20)}}, everywhere)
	cmd := startIn(t, c, "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo $?")
	cmd.Wait()
	if stats, err := c.stats(); err != nil || stats.OOMKills == 0 {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestLeftoversInACgroupGoWithIt(t *testing.T) {
	c := testCgroup(t, nil, everywhere)
	startIn(t, c, "sleep 100")
	for _, h := range c.hierarchies {
		if err := os.MkdirAll(c.dir(h)+"/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func init() {
	children["join"] = func() error {
		c, err := newCgroup(os.Getenv("CGROUP"))
		if err != nil {
			return err
		}
		if err := c.join(); err != nil {
			return err
		}
		text, err := os.ReadFile("/proc/thread-self/cgroup")
		fmt.Print(string(text))
		return err
	}
}

func TestAThreadJoinsEveryHierarchyOfCgroupV1(t *testing.T) {
	c := testCgroup(t, nil, everywhere)
	output, state := inChild(t, "join", "CGROUP="+c.path)
	if !state.Success() {
		t.Fatalf("%v: %s", state, output)
	}
	for _, h := range c.hierarchies {
		if !h.isV2() && !strings.Contains(output+"\n", ":"+strings.Join(h.V1, ",")+":"+c.path+"\n") {
			t.Errorf("not in %v: %s", h.V1, output)
		}
	}
}

func TestDevicesAreThoseThatTheRulesAllow(t *testing.T) {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: pointer[int64](10), Minor: pointer[int64](200), Access: "rw"}, // tun
		{Allow: true, Type: "c", Major: pointer[int64](1), Minor: pointer[int64](11), Access: "r"},    // kmsg
	}
	v2 := func(h hierarchy) bool { return h.isV2() }
	v1 := func(h hierarchy) bool { return slices.Contains(h.V1, "devices") }
	for name, which := range map[string]func(h hierarchy) bool{"v1": v1, "v2": v2} {
		t.Run(name, func(t *testing.T) {
			c := testCgroup(t, &specs.LinuxResources{Devices: rules}, which)
			dir := t.TempDir()
			for device, numbers := range map[string]string{"null": "c 1 3", "mem": "c 1 1", "kmsg": "c 1 11", "disk": "b 8 0", "fuse": "c 10 229", "tty": "c 5 0", "loop": "b 7 0"} {
				if output, err := exec.Command("sh", "-c", "mknod "+dir+"/"+device+" "+numbers).CombinedOutput(); err != nil {
					t.Fatal(string(output))
				}
			}
			cmd := startIn(t, c, "cd "+dir+`
				try() { if ("$@") 2>error; then echo "$*: yes"; else echo "$*: $(grep -o 'Operation not permitted' error)"; fi; }
				reads() { : <$1; }
				writes() { : >>$1; }
				for d in null kmsg mem disk fuse loop; do try reads $d; done
				try writes null
				try writes kmsg
				try mknod new b 8 1
				try reads new
			`)
			cmd.Wait()
			no := ": Operation not permitted"
			want := []string{
				"reads null: yes", "reads kmsg: yes", "reads mem" + no, "reads disk" + no, "reads fuse" + no, "reads loop" + no,
				"writes null: yes", "writes kmsg" + no, "mknod new b 8 1: yes", "reads new" + no,
			}
			got := strings.Split(strings.TrimSpace(cmd.Stdout.(*bytes.Buffer).String()), "\n")
			if !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestCgroupV1RefusesExceptionsFromExceptions(t *testing.T) {
	allowAll := specs.LinuxDeviceCgroup{Allow: true}
	denyFuse := specs.LinuxDeviceCgroup{Type: "c", Major: pointer[int64](10), Minor: pointer[int64](229), Access: "rwm"}
	allowMisc := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: pointer[int64](10), Access: "rw"}
	allowFuse := denyFuse
	allowFuse.Allow = true
	for _, one := range []struct {
		rules []specs.LinuxDeviceCgroup
		ok    bool
	}{
		{nil, true},
		{[]specs.LinuxDeviceCgroup{denyFuse}, true}, // docker's: nothing covers it
		{[]specs.LinuxDeviceCgroup{allowMisc, denyFuse}, false},
		{[]specs.LinuxDeviceCgroup{allowFuse, denyFuse}, true},
		{[]specs.LinuxDeviceCgroup{allowAll}, true},
	} {
		rules, err := deviceRules(one.rules)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkExceptions(rules); (err == nil) != one.ok {
			t.Errorf("%v: %v", one.rules, err)
		}
	}
	for _, bad := range []specs.LinuxDeviceCgroup{{Type: "x"}, {Type: "c", Access: "rx"}} {
		if _, err := deviceRules([]specs.LinuxDeviceCgroup{bad}); err == nil {
			t.Errorf("no error for %v", bad)
		}
	}
}
