package main

import (
	"net/netip"
	"reflect"
	"testing"

	dockercontainer "github.com/moby/moby/api/types/container"
	dockernetwork "github.com/moby/moby/api/types/network"
)

func TestPortsAreParsedAsDockerWritesThem(t *testing.T) {
	binding := func(address, port string) dockernetwork.PortBinding {
		if address == "" {
			return dockernetwork.PortBinding{HostPort: port}
		}
		return dockernetwork.PortBinding{HostIP: netip.MustParseAddr(address), HostPort: port}
	}
	port := dockernetwork.MustParsePort
	for text, wanted := range map[string]dockernetwork.PortMap{
		"80":                {port("80/tcp"): {binding("", "")}},
		"8080:80":           {port("80/tcp"): {binding("", "8080")}},
		"53:53/udp":         {port("53/udp"): {binding("", "53")}},
		"127.0.0.1:8080:80": {port("80/tcp"): {binding("127.0.0.1", "8080")}},
		"127.0.0.1::80":     {port("80/tcp"): {binding("127.0.0.1", "")}},
		"8000-8001:80-81":   {port("80/tcp"): {binding("", "8000")}, port("81/tcp"): {binding("", "8001")}},
		"8000-8009:80":      {port("80/tcp"): {binding("", "8000-8009")}},
	} {
		_, bindings, err := parsePorts([]string{text}, nil)
		if err != nil || !reflect.DeepEqual(bindings, wanted) {
			t.Errorf("%s: %v, %v, not %v", text, bindings, err, wanted)
		}
	}
	for _, text := range []string{"", "80:80:80:80", "99999:80", "80/icmp", "80/sctp", "[::1]:80:80", "8000-8001:80-82", "x"} {
		if _, bindings, err := parsePorts([]string{text}, nil); err == nil {
			t.Errorf("%q: %v", text, bindings)
		}
	}
}

func TestExposedPortsAreThoseOfBothFlags(t *testing.T) {
	exposed, bindings, err := parsePorts([]string{"8080:80"}, []string{"90-91/udp", "100"})
	if err != nil {
		t.Fatal(err)
	}
	if len(exposed) != 4 || len(bindings) != 1 {
		t.Errorf("%v %v", exposed, bindings)
	}
}

func TestPortsThatMayBeAnyAreChosenLast(t *testing.T) {
	_, bindings, err := parsePorts([]string{"80", "7000-7005:81", "8080:82", ":83", "0:84"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &container{Config: &dockercontainer.Config{}, HostConfig: &dockercontainer.HostConfig{PortBindings: bindings}}
	all, err := publications(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 5 || all[0].first != 8080 || all[1].first != 7000 || all[1].last != 7005 || all[2].last+all[3].last+all[4].last != 0 {
		t.Errorf("%v", all)
	}
}

func TestPortsReadAsInDockersPs(t *testing.T) {
	port := dockernetwork.MustParsePort
	all := netip.MustParseAddr("0.0.0.0")
	c := &container{Network: network{Ports: dockernetwork.PortMap{
		port("80/tcp"):   {{HostIP: all, HostPort: "8080"}},
		port("443/tcp"):  nil,
		port("9000/tcp"): {{HostIP: all, HostPort: "9000"}},
		port("9001/tcp"): {{HostIP: all, HostPort: "9001"}},
	}}}
	if text := portsText(c); text != "443/tcp, 0.0.0.0:9000-9001->9000-9001/tcp, 0.0.0.0:8080->80/tcp" {
		t.Error(text)
	}
}

func TestFlagsReplaceTheLinesOfTheirKindInResolvConf(t *testing.T) {
	host := "domain old\nnameserver 10.0.0.1\nsearch a b\noptions ndots:1\nnameserver 10.0.0.2"
	server := []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	for _, test := range []struct {
		flags  dockercontainer.HostConfig
		wanted string
	}{
		{dockercontainer.HostConfig{}, host + "\n"},
		{dockercontainer.HostConfig{DNS: server}, "domain old\nsearch a b\noptions ndots:1\nnameserver 9.9.9.9\n"},
		{dockercontainer.HostConfig{DNSSearch: []string{"c", "d"}},
			"nameserver 10.0.0.1\noptions ndots:1\nnameserver 10.0.0.2\nsearch c d\n"},
		{dockercontainer.HostConfig{DNSSearch: []string{"."}}, "nameserver 10.0.0.1\noptions ndots:1\nnameserver 10.0.0.2\n"},
		{dockercontainer.HostConfig{DNSOptions: []string{"rotate"}, DNS: server, DNSSearch: []string{"e"}},
			"search e\nnameserver 9.9.9.9\noptions rotate\n"},
	} {
		if conf := addDNS(host, &test.flags); conf != test.wanted {
			t.Errorf("%q, not %q", conf, test.wanted)
		}
	}
}
