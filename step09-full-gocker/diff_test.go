package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChangesAreDockers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := t.TempDir()
	sh := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sh(`mkdir -p store/scratch layer/bin layer/etc layer/real/sub layer/tree/sub layer/same layer/todir
		touch layer/bin/a layer/bin/b layer/etc/passwd layer/real/x layer/real/sub/y layer/tree/sub/z layer/same/f layer/tofile layer/todir/f`)
	err := withMounts(func() error {
		if err := unix.Mount("none", dir+"/store", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := mountOverlay(dir+"/store", []string{dir + "/layer"}); err != nil {
			return err
		}
		cmd := exec.Command("sh", "-ec", `
			touch etc/new etc/hosts etc/hostname; rm etc/passwd; mkdir d; touch d/f; touch -d @1 bin/a
			rm -r real; mkdir real; touch real/new; rm -r tree
			chmod 700 same; touch bin/zz; rm bin/zz; mkdir -p proc sys dev
			rm tofile; mkdir tofile; touch tofile/in; rm -r todir; touch todir`)
		cmd.Dir = dir + "/store/merged"
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		changes, err := compareDirs(dir+"/layer", dir+"/store/upper", "/")
		var got []string
		for _, change := range changes {
			got = append(got, change.String())
		}
		want := "C /bin,C /bin/a,A /d,A /d/f,C /etc,A /etc/new,D /etc/passwd,C /real,A /real/new,D /real/sub,D /real/x," +
			"C /same,C /todir,C /tofile,A /tofile/in,D /tree"
		if strings.Join(got, ",") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
