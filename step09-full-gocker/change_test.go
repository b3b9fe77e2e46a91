package main

import (
	"reflect"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func TestChanges(t *testing.T) {
	before := func() dockerspec.DockerOCIImageConfig {
		var config dockerspec.DockerOCIImageConfig
		config.Env = []string{"PATH=/bin", "A=1"}
		config.Cmd = []string{"old"}
		config.WorkingDir = "/w"
		return config
	}
	for change, want := range map[string]func(*dockerspec.DockerOCIImageConfig){
		`CMD echo "a b"`:        func(c *dockerspec.DockerOCIImageConfig) { c.Cmd = []string{"/bin/sh", "-c", `echo "a b"`} },
		`cmd ["a", "b"]`:        func(c *dockerspec.DockerOCIImageConfig) { c.Cmd = []string{"a", "b"} },
		`ENTRYPOINT ["e"]`:      func(c *dockerspec.DockerOCIImageConfig) { c.Entrypoint, c.Cmd = []string{"e"}, nil },
		`ENV A="b c" D=$PATH`:   func(c *dockerspec.DockerOCIImageConfig) { c.Env = []string{"PATH=/bin", "A=b c", "D=/bin"} },
		`ENV B two words`:       func(c *dockerspec.DockerOCIImageConfig) { c.Env = append(c.Env, "B=two words") },
		`LABEL "a b"=c d='$A'`:  func(c *dockerspec.DockerOCIImageConfig) { c.Labels = map[string]string{"a b": "c", "d": "$A"} },
		`EXPOSE 80 53/udp`:      func(c *dockerspec.DockerOCIImageConfig) { c.ExposedPorts = set("80/tcp", "53/udp") },
		`VOLUME ["/a b", "/c"]`: func(c *dockerspec.DockerOCIImageConfig) { c.Volumes = set("/a b", "/c") },
		`VOLUME /a /b`:          func(c *dockerspec.DockerOCIImageConfig) { c.Volumes = set("/a", "/b") },
		`WORKDIR sub/../x`:      func(c *dockerspec.DockerOCIImageConfig) { c.WorkingDir = "/w/x" },
		`WORKDIR /y`:            func(c *dockerspec.DockerOCIImageConfig) { c.WorkingDir = "/y" },
		`USER 1000:1000`:        func(c *dockerspec.DockerOCIImageConfig) { c.User = "1000:1000" },
		`STOPSIGNAL SIGUSR1`:    func(c *dockerspec.DockerOCIImageConfig) { c.StopSignal = "SIGUSR1" },
		`STOPSIGNAL BOGUS`:      nil,
		`RUN true`:              nil,
		`ENV`:                   nil,
		`ENV A=b c`:             nil,
		`LABEL a="b`:            nil,
	} {
		got, expected := before(), before()
		_, err := applyChange(&got, change, false)
		if want == nil {
			if err == nil {
				t.Errorf("%s: no error", change)
			}
			continue
		}
		want(&expected)
		if err != nil || !reflect.DeepEqual(got, expected) {
			t.Errorf("%s: got %+v, %v; want %+v", change, got, err, expected)
		}
	}
}

func set(keys ...string) map[string]struct{} { return with(map[string]struct{}(nil), keys) }
