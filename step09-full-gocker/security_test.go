package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCapabilitiesAreDockers(t *testing.T) {
	every, err := knownCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	without := func(set []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(set), func(name string) bool { return slices.Contains(names, name) })
	}
	for _, one := range []struct {
		add, drop  []string
		privileged bool
		want       []string
	}{
		{want: defaultCapabilities},
		{privileged: true, want: every},
		{drop: []string{"ALL"}, want: nil},
		{drop: []string{"all"}, add: []string{"chown"}, want: []string{"CAP_CHOWN"}},
		{add: []string{"ALL"}, want: every},
		{add: []string{"ALL"}, drop: []string{"CAP_MKNOD", "kill"}, want: without(every, "CAP_MKNOD", "CAP_KILL")},
		{add: []string{"NET_ADMIN"}, drop: []string{"mknod"}, want: append(without(defaultCapabilities, "CAP_MKNOD"), "CAP_NET_ADMIN")},
		{add: []string{"CHOWN"}, want: defaultCapabilities},
	} {
		got, err := capabilities(one.add, one.drop, one.privileged)
		slices.Sort(got)
		slices.Sort(one.want)
		if err != nil || !slices.Equal(got, one.want) {
			t.Errorf("+%v -%v: %v, %v", one.add, one.drop, got, err)
		}
	}
	for _, flag := range []string{"CapAdd", "CapDrop"} {
		add, drop := []string{"x"}, []string(nil)
		if flag == "CapDrop" {
			add, drop = nil, []string{"cap_x"}
		}
		_, err := capabilities(add, drop, false)
		if want := `invalid ` + flag + `: unknown capability: "CAP_X"`; fmt.Sprint(err) != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func TestUsersAreLookedUpInTheImage(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nbad line\n",
		"group":  "root:x:0:\nuser:x:1000:\nextra:x:2000:user,other\n",
	} {
		if err := os.MkdirAll(dir+"/real", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/real/"+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/../../real", dir+"/etc"); err != nil { // which leads nowhere outside
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"":            "0:0 [0] /root",
		"root":        "0:0 [0] /root",
		"1000":        "1000:1000 [1000 2000] /home/user",
		"user":        "1000:1000 [1000 2000] /home/user",
		"1000:1000":   "1000:1000 [1000] /home/user",
		"user:extra":  "1000:2000 [2000] /home/user",
		"4242":        "4242:0 [0] /",
		"4242:4243":   "4242:4243 [4243] /",
		"nosuch":      "unable to find user nosuch: no matching entries in passwd file",
		"user:nosuch": "unable to find group nosuch: no matching entries in group file",
	} {
		u, home, err := lookupUser(root, name)
		got := fmt.Sprintf("%d:%d %v %s", u.UID, u.GID, u.AdditionalGids, home)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, not %s", name, got, want)
		}
	}
	if err := os.Truncate(dir+"/real/passwd", 1<<40); err != nil {
		t.Skip(err)
	}
	if _, _, err := lookupUser(root, "user"); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a passwd of a terabyte: %v", err)
	}
}

func TestSeccompProfiles(t *testing.T) {
	s := &specs.Spec{Process: &specs.Process{Capabilities: capabilitySets(defaultCapabilities)}}
	for _, one := range []struct {
		option     string
		privileged bool
		filter, ok bool
	}{
		{"", false, true, true}, {"builtin", false, true, true}, {"unconfined", false, false, true},
		{"", true, false, true}, {"{}", false, false, true}, {`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}`, true, true, true},
		{"no JSON", false, false, false},
	} {
		profile, err := seccompProfile(one.option, one.privileged, s)
		if (profile != nil) != one.filter || (err == nil) != one.ok {
			t.Errorf("%q: %v, %v", one.option, profile != nil, err)
		}
	}
}
