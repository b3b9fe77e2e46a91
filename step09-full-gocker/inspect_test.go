package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/templates"
	dockercontainer "github.com/moby/moby/api/types/container"
)

// inspected returns what inspect -f format prints of object, or the text of its error.
func inspected(t *testing.T, format string, object any) string {
	t.Helper()
	i := &inspector{}
	if format != "" && format != "json" {
		parsed, err := templates.Parse(format)
		if err != nil {
			t.Fatal(err)
		}
		i.template = parsed
	}
	var out bytes.Buffer
	if err := i.add(object); err != nil {
		return err.Error()
	}
	if err := i.print(&out, format == "json"); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestInspectContainer(t *testing.T) {
	c := &container{
		ID: strings.Repeat("0f", 32), Name: "aa", ImageID: "sha256:1", ExitCode: 7,
		Config:     &dockercontainer.Config{Cmd: []string{"sh", "-c", "a > b"}},
		HostConfig: &dockercontainer.HostConfig{NetworkMode: "bridge", Resources: dockercontainer.Resources{Memory: 1e9}},
		Started:    time.Unix(1, 5), Finished: time.Unix(2, 0),
	}
	for format, want := range map[string]string{
		"{{.Id}}": c.ID, "{{.ID}}": c.ID,
		"{{.Name}} {{.Path}} {{json .Args}}":                         `/aa sh ["-c","a > b"]`,
		"{{.State.ExitCode}} {{.State.Pid}}":                         "7 0",
		"{{.State.StartedAt}}":                                       "1970-01-01T00:00:01.000000005Z",
		"{{.HostConfig.Memory}} {{.Id | len}}":                       "1000000000 64",
		"{{.NetworkSettings.IPAddress}}|":                            "|",
		"{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}": "bridge",
		"{{json .Mounts}}":                                           "[]",
		"{{.Nope}}":                                                  `template parsing error: template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"`,
	} {
		if got := inspected(t, format, inspectContainer(c)); got != want {
			t.Errorf("%s is %s, not %s", format, got, want)
		}
	}
	text := inspected(t, "", inspectContainer(c))
	if !strings.HasPrefix(text, "[\n    {\n        \"Id\":") || strings.Count(text, "\"NetworkSettings\"") != 1 {
		t.Error(text)
	}
	if text := inspected(t, "json", inspectContainer(c)); !strings.HasPrefix(text, `[{"Id":`) {
		t.Error(text)
	}
}

func TestInspectImage(t *testing.T) {
	img := &image{ID: "sha256:1", dir: t.TempDir()}
	config := `{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","author":"me",
		"config":{"Cmd":["sh"],"Env":["A=b"],"StopSignal":"USR1","OnBuild":["RUN x"]},
		"rootfs":{"type":"layers","diff_ids":["sha256:2"]},"history":[{"comment":"first"},{"comment":"last"}]}`
	if err := os.WriteFile(filepath.Join(img.dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	object, err := inspectImage(img)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"{{.Id}} {{.Os}}/{{.Architecture}} {{.Created}}": "sha256:1 linux/amd64 2026-01-02T03:04:05Z",
		"{{json .Config.Cmd}} {{.Config.StopSignal}}":    `["sh"] USR1`,
		"{{.RootFS.Layers}} {{.Comment}}":                "[sha256:2] last",
		"{{json .Config.OnBuild}} {{json .RepoTags}}":    `["RUN x"] []`,
	} {
		if got := inspected(t, format, object); got != want {
			t.Errorf("%s is %s, not %s", format, got, want)
		}
	}
}
