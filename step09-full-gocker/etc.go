package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	dockercontainer "github.com/moby/moby/api/types/container"
)

// etcFiles are those in a container's /etc that say where it is and how it finds others. They are
// in c.dir() on the host, from where they are bind-mounted: so they change under the container when
// they are written here, but not when they are replaced.
var etcFiles = []string{"hosts", "hostname", "resolv.conf"}

// writeEtc writes the etcFiles of c, as far as they can be known before it runs. Two containers
// that share a network share them, too: there they are the same files, by hard links.
func writeEtc(c *container) error {
	if c.HostConfig.NetworkMode.IsContainer() {
		other, err := findContainer(c.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		for _, name := range etcFiles {
			file := filepath.Join(c.dir(), name)
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err := os.Link(filepath.Join(other.dir(), name), file); err != nil {
				return err
			}
		}
		return nil
	}
	if err := writeHosts(c); err != nil {
		return err
	}
	if err := writeEtcFile(c, "hostname", c.Config.Hostname+"\n"); err != nil {
		return err
	}
	conf := hostFile("/etc/resolv.conf")
	if !c.HostConfig.NetworkMode.IsHost() {
		conf = resolvConf()
	}
	return writeEtcFile(c, "resolv.conf", addDNS(conf, c.HostConfig))
}

// writeEtcFile gives one of the etcFiles new content. Everybody in the container may read it,
// whatever umask(2) gocker was started with.
func writeEtcFile(c *container, name, content string) error {
	file := filepath.Join(c.dir(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Chmod(file, 0o644)
}

// writeHosts writes the file hosts, hosts(5), of c: with its own address as soon as it has one.
func writeHosts(c *container) error {
	hosts := "127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n"
	if c.HostConfig.NetworkMode.IsHost() {
		hosts = hostFile("/etc/hosts")
	}
	for _, extra := range c.HostConfig.ExtraHosts {
		name, address, found := strings.Cut(extra, ":")
		if !found {
			return fmt.Errorf("bad format for add-host: %q", extra)
		}
		if address == "host-gateway" {
			address = hostGateway().String()
		}
		hosts += address + "\t" + name + "\n"
	}
	if c.Network.Address.IsValid() {
		names := c.Config.Hostname
		if c.Config.Domainname != "" {
			names += "." + c.Config.Domainname + " " + c.Config.Hostname
		}
		hosts += c.Network.Address.Addr().String() + "\t" + names + "\n"
	}
	return writeEtcFile(c, "hosts", hosts)
}

// hostFile returns the content of the host's file path, which the host need not have.
func hostFile(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}

// addDNS returns the resolv.conf(5) conf with what run's flags say: --dns, --dns-search and
// --dns-option each take the place of all lines of their kind. A search domain "." is for none.
func addDNS(conf string, host *dockercontainer.HostConfig) string {
	replaced := map[string]bool{
		"nameserver": len(host.DNS) > 0,
		"search":     len(host.DNSSearch) > 0,
		"domain":     len(host.DNSSearch) > 0,
		"options":    len(host.DNSOptions) > 0,
	}
	result := ""
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) > 0 && replaced[fields[0]] {
			continue
		}
		result += line
	}
	if result != "" && !strings.HasSuffix(result, "\n") {
		result += "\n"
	}
	if len(host.DNSSearch) > 0 && !slices.Equal(host.DNSSearch, []string{"."}) {
		result += "search " + strings.Join(host.DNSSearch, " ") + "\n"
	}
	for _, server := range host.DNS {
		result += "nameserver " + server.String() + "\n"
	}
	if len(host.DNSOptions) > 0 {
		result += "options " + strings.Join(host.DNSOptions, " ") + "\n"
	}
	return result
}

// resolvConf returns the host's resolv.conf(5) without comments and without name servers that a
// container cannot reach: those on the host's loopback, and by IPv6. Where those are all, they are
// stubs of systemd's or NetworkManager's, which say elsewhere what servers they ask themselves.
func resolvConf() string {
	first := ""
	files := []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"}
	for i, file := range files {
		conf, servers := "", 0
		for line := range strings.Lines(hostFile(file)) {
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue
			}
			if fields := strings.Fields(line); strings.HasPrefix(line, "nameserver") && len(fields) > 1 {
				server, err := netip.ParseAddr(fields[1])
				if err != nil || server.Is6() || server.IsLoopback() || server.IsUnspecified() {
					continue
				}
				servers++
			}
			conf += line
		}
		if servers > 0 {
			return conf
		}
		if i == 0 {
			first = conf
		}
	}
	return first
}
