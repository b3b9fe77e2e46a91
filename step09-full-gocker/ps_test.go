package main

import (
	"bytes"
	"testing"
	"time"

	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"aa": true, "/aa": true, "a.b-c_d": true, "0a": true,
		"": false, "a": false, "/": false, "b@d": false, "-aa": false, "a/b": false, "a b": false, "aa\n": false,
	} {
		if err := checkName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRandomNamesAreGoodNames(t *testing.T) {
	for range 1000 {
		if err := checkName(randomName()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommandTextQuotesArguments(t *testing.T) {
	c := &container{Config: &dockercontainer.Config{
		Entrypoint: []string{"sh", "-c"}, Cmd: []string{"exit 7"}}}
	if got := commandText(c); got != "sh -c 'exit 7'" {
		t.Error(got)
	}
}

func TestPsFilters(t *testing.T) {
	c := &container{ID: "abcdef", Name: "web-1", ExitCode: 7, Created: time.Now(),
		Config: &dockercontainer.Config{Labels: map[string]string{"tier": "front", "empty": ""}}}
	s := dockercontainer.Summary{State: stateExited, NetworkSettings: &dockercontainer.NetworkSettingsSummary{}}
	for _, try := range []struct {
		key    string
		values []string
		want   bool
	}{
		{"name", []string{"eb"}, true}, {"name", []string{"^web"}, true}, {"name", []string{"^/web"}, true},
		{"name", []string{"("}, false}, {"name", []string{"db", "web"}, true}, {"name", []string{"db"}, false},
		{"id", []string{"abc"}, true}, {"id", []string{"bc"}, false},
		{"status", []string{"exited"}, true}, {"status", []string{"running"}, false},
		{"exited", []string{"7"}, true}, {"exited", []string{"0"}, false}, {"exited", []string{"0", "7"}, true},
		{"label", []string{"tier"}, true}, {"label", []string{"tier=front"}, true}, {"label", []string{"tier=back"}, false},
		{"label", []string{"tier", "nope"}, false}, {"label", []string{"empty="}, true},
	} {
		f, err := newPsFilters(make(client.Filters).Add(try.key, try.values...))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.match(c, s); got != try.want {
			t.Errorf("%s=%v: %v", try.key, try.values, got)
		}
	}
	for key, value := range map[string]string{"bogus": "x", "status": "x", "exited": "x"} {
		if _, err := newPsFilters(make(client.Filters).Add(key, value)); err == nil {
			t.Errorf("%s=%s", key, value)
		}
	}
}

func TestShowProcesses(t *testing.T) {
	const output = "UID PID PPID C STIME TTY TIME CMD\n" +
		"root 1 0 0 10:00 ? 00:00:00 /sbin/init\n" +
		"root 42 1 0 10:00 ? 00:00:00 sh -c sleep  9\n" +
		"root - - 0 10:00 - 00:00:00 -\n" +
		"root 420 1 0 10:00 ? 00:00:00 other\n"
	var out bytes.Buffer
	if err := showProcesses(&out, output, []int{42}); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte{'\n'})
	if len(lines) != 3 || !bytes.HasSuffix(lines[1], []byte("sh -c sleep 9")) {
		t.Errorf("%s", out.Bytes())
	}
	if err := showProcesses(&out, "UID CMD\n", nil); err == nil {
		t.Error("a list without PIDs was taken")
	}
}
