package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// children are what this program does when inChild has started it: things that a thread cannot undo.
var children = map[string]func() error{}

// TestChild is no test but a child.
func TestChild(t *testing.T) {
	child, ok := children[os.Getenv("CHILD")]
	if !ok {
		t.SkipNow()
	}
	runtime.LockOSThread()
	if err := child(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inChild starts this program as a child, in a mount namespace of its own, and returns what it prints,
// and how it ends.
func inChild(t *testing.T, name string, env ...string) (string, *os.ProcessState) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	cmd.Env = append(env, "CHILD="+name, "IN_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(output)), cmd.ProcessState
}
