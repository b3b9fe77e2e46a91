package main

import (
	"strings"
	"testing"

	dockercontainer "github.com/moby/moby/api/types/container"
)

func TestWrongMountsAreRefusedInDockersWords(t *testing.T) {
	for _, test := range []struct{ flag, value, want string }{
		{"-v", "", "invalid empty volume spec"},
		{"-v", ":/v", "invalid spec: :/v: empty section between colons"},
		{"-v", "/a:/b:ro:x", "invalid spec: /a:/b:ro:x: too many colons"},
		{"-v", "/v:ro", "invalid volume specification: '/v:ro'"},
		{"-v", "/", "invalid specification: destination can't be '/'"},
		{"-v", "/x:/", `invalid volume specification: '/x:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`},
		{"-v", "/x:rel", `invalid volume specification: '/x:rel': invalid mount config for type "bind": invalid mount path: 'rel' mount path must be absolute`},
		{"-v", "/v:/v:bogus", "invalid mode: bogus"},
		{"-v", "/v:/v:ro,rw", "invalid mode: ro,rw"},
		{"-v", "vv:/v:rshared", `invalid volume specification: 'vv:/v:rshared': invalid mount config for type "volume": field BindOptions must not be specified`},
		{"-v", "a/b:/v", `create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{"-v", "/a:/dup", "Duplicate mount point: /dup"},
		{"--mount", "bogus", `invalid argument "bogus" for "--mount" flag: invalid field 'bogus' must be a key=value pair`},
		{"--mount", "src=vv", `invalid argument "src=vv" for "--mount" flag: target is required`},
		{"--mount", "type=foo,target=/v", `invalid mount config for type "foo": mount type unknown`},
		{"--mount", "type=bind,src=/no/such,target=/v", `invalid mount config for type "bind": bind source path does not exist: /no/such`},
		{"--mount", "type=bind,src=/,target=/v,bind-propagation=x", `invalid mount config for type "bind": invalid propagation mode: x`},
		{"--mount", "target=/v,ro", `invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes`},
		{"--mount", "type=tmpfs,src=x,target=/y", `invalid mount config for type "tmpfs": field Source must not be specified`},
		{"--mount", "type=tmpfs,target=/dup", "Duplicate mount point: /dup"},
		{"--tmpfs", "rel", "invalid mount path: 'rel' mount path must be absolute"},
		{"--tmpfs", "/x:bogus", `invalid tmpfs option ["bogus"]`},
		{"--tmpfs", "/dup", "Duplicate mount point: /dup"},
	} {
		flags := map[string][]string{"-v": {"/a:/dup/"}, test.flag: {test.value}}
		if test.flag == "-v" {
			flags["-v"] = []string{"/a:/dup/", test.value}
		}
		_, err := parseMounts(flags["-v"], flags["--mount"], flags["--tmpfs"], nil, &dockercontainer.HostConfig{})
		if err == nil || err.Error() != test.want {
			t.Errorf("%s %s: %v", test.flag, test.value, err)
		}
	}
}

func TestMountPointsAreDockers(t *testing.T) {
	host := &dockercontainer.HostConfig{}
	img := &image{}
	img.Config.Volumes = map[string]struct{}{"/vol": {}, "/h": {}, "/tf": {}}
	points, err := parseMounts([]string{"v1:/data", "/anon", "/host:/h:ro", "./rel:/r"},
		[]string{"type=tmpfs,target=/t,tmpfs-size=1m"}, []string{"/tf/:size=1m"}, img, host)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range points {
		got = append(got, strings.Join([]string{string(p.Type), p.Destination, p.Mode, string(p.Propagation)}, " "))
	}
	want := "volume /data z ,bind /h ro rprivate,bind /r  rprivate,tmpfs /t  ,volume /anon  ,volume /vol  "
	if strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
	if len(host.Binds) != 3 || strings.HasPrefix(host.Binds[2], ".") || host.Tmpfs["/tf"] != "size=1m" || len(host.Mounts) != 1 {
		t.Errorf("noted: %v %v %v", host.Binds, host.Tmpfs, host.Mounts)
	}
	if len(points[4].Name) != 64 || points[4].Name == points[5].Name {
		t.Error("an anonymous volume has the name", points[4].Name)
	}
}
