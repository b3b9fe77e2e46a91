package scripts

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestGoToolchain runs scripts/go-toolchain in a repository whose go.work wants a Go that
// nobody has but a module proxy in a directory: a shell script.
func TestGoToolchain(t *testing.T) {
	const version = "9999.1.0"
	name := fmt.Sprintf("v0.0.1-go%s.linux-%s", version, runtime.GOARCH)
	var module bytes.Buffer
	archive := zip.NewWriter(&module)
	for file, text := range map[string]string{
		"bin/go": fakeGo("go" + version), "bin/gofmt": "", "pkg/tool/linux/vet": "", "src/_go.mod": "module std\n",
	} {
		w, err := archive.Create("golang.org/toolchain@" + name + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}

	work := t.TempDir()
	write := func(file, text string) {
		file = filepath.Join(work, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, script := range []string{"go-toolchain", "begin.sh"} {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		write("repository/scripts/"+script, string(text))
	}
	write("repository/go.work", "go "+version+"\n")
	write("repository/scripts/vagrant/go.sums", fmt.Sprintf("%x  %s.zip\n", sha256.Sum256(module.Bytes()), name))
	write("proxy/golang.org/toolchain/@v/"+name+".zip", module.String())
	write("wrong/golang.org/toolchain/@v/"+name+".zip", module.String()[1:])
	for _, found := range []string{"go9999.0.9", "go9999.1.0", "go9999.1.10", "devel go9999.2-1234 Mon", "none"} {
		write(found+"/go", fakeGo(found))
	}
	cache := filepath.Join(work, "cache")
	brought := filepath.Join(cache, "gocker", "go"+version, "bin")

	// The order matters: what one has brought, the next finds.
	for _, test := range []struct {
		name    string
		goproxy string // W is for file:// and the directory above
		path    string // the go in PATH
		args    []string
		want    string // "": an error
		message string // in its one line
	}{
		{"nothing is there", "off", "", []string{"--find"}, "", ""},
		{"off", "off", "", nil, "", "GOPROXY=off has no module proxy"},
		{"direct", "direct", "", nil, "", "GOPROXY=direct has no module proxy"},
		{"not there", "W/nowhere,direct", "", nil, "", "/nowhere: curl: "},
		{"a password", "http://user:secret@127.0.0.1:1/x", "", nil, "", "http://127.0.0.1:1/x: curl: "},
		{"a wrong checksum", "W/wrong|W/proxy", "", nil, "", "is not what vagrant/go.sums says"},
		{"the same version", "off", "go9999.1.0", nil, work + "/go9999.1.0/bin", ""},
		{"a later one", "off", "go9999.1.10", nil, work + "/go9999.1.10/bin", ""},
		{"one's own", "off", "devel go9999.2-1234 Mon", nil, work + "/devel go9999.2-1234 Mon/bin", ""},
		{"an older one", "off", "go9999.0.9", nil, "", "GOPROXY=off has no module proxy"},
		{"one that is broken", "off", "none", nil, "", "GOPROXY=off has no module proxy"},
		{"several", "off,W/nowhere|direct,W/proxy", "go9999.0.9", nil, brought, ""},
		{"once more", "off", "go9999.0.9", nil, brought, ""},
		{"found", "off", "", []string{"--find"}, brought, ""},
		{"elsewhere", "W/proxy/", "", []string{work + "/usr/go"}, work + "/usr/go/bin", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(work, "repository/scripts/go-toolchain"), test.args...)
			cmd.Env = []string{
				"PATH=" + filepath.Join(work, test.path) + ":/usr/bin:/bin", "HOME=" + work, "XDG_CACHE_HOME=" + cache,
				"GOPROXY=" + strings.ReplaceAll(test.goproxy, "W/", "file://"+work+"/"),
			}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if got := strings.TrimSpace(stdout.String()); got != test.want {
				t.Errorf("it prints %q, not %q, and says:\n%s", got, test.want, stderr.String())
			}
			if strings.Contains(stderr.String(), "secret") {
				t.Errorf("a password is shown: %s", stderr.String())
			}
			if test.want != "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Error("that is no error")
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, test.message) {
				t.Errorf("the error is %q, without %q", last, test.message)
			}
			if left := files(t, cache); left != "" {
				t.Errorf("it leaves:\n%s", left)
			}
		})
	}
	for _, file := range []string{"bin/go", "pkg/tool/linux/vet", "src/go.mod"} {
		info, err := os.Stat(filepath.Join(filepath.Dir(brought), file))
		if err != nil {
			t.Error(err)
		} else if strings.HasSuffix(file, ".mod") != (info.Mode()&0o100 == 0) {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
}

// fakeGo is a program that says of itself that it is a version of Go, and that its
// GOROOT is where it is, or above if that is called bin.
func fakeGo(version string) string {
	return `#!/bin/sh
dir=$(dirname "$(realpath "$0")")
case $2 in
GOVERSION) echo "` + version + `" ;;
GOROOT) echo "${dir%/bin}" ;;
esac
`
}
