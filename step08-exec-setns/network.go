package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	runDir     = "/run/gocker"     // what is true until the host is switched off
	portsDir   = runDir + "/ports" // for each container a symlink that says the index of its port
	bridgeName = "gocker0"
	// The bridge's address and with it the containers' subnet, unless gocker0 is there already
	// and has another.
	bridgeAddress = "172.29.0.1/16"
)

// A network is what init has to know of the container's.
type network struct {
	Address    net.IPNet // of eth0
	Gateway    net.IP    // the bridge's
	ResolvConf string    // resolv.conf(5)
}

// connect gives the network namespace of the process pid, of the container id, an interface eth0
// that is one end of a veth pair, veth(4), whose other end is a port of the bridge. disconnect
// makes the address free.
//
// None of our threads goes there for that. A namespace belongs to a thread: setns(2) and
// unshare(2) change the one that calls, while the Go runtime moves a goroutine from thread to
// thread and hands a thread on to others. So a program that does this has to lock the two
// together (runtime.LockOSThread), and to let the thread end with the goroutine. One that does
// not will, sooner or later, start a container in the host's namespace. Here the child is born
// in its namespace, clone(2), the kernel makes eth0 in it, and init, all of whose threads are
// there, gives it the address.
func connect(ctx context.Context, id string, pid int) (nw network, err error) {
	if err := os.MkdirAll(portsDir, 0o700); err != nil {
		return nw, err
	}
	lock, err := lockDir(ctx, runDir) // one at a time: what is made on first use is made once
	if err != nil {
		return nw, err
	}
	defer lock.Close()
	links, err := list(netlink.LinkList)
	if err != nil {
		return nw, fmt.Errorf("list links: %w", err)
	}
	bridge, subnet, err := makeBridge(links)
	if err != nil {
		return nw, err
	}
	if err := enableForwarding(); err != nil {
		return nw, err
	}
	if err := masquerade(subnet); err != nil {
		return nw, err
	}
	address, err := findAddress(subnet, links)
	if err != nil {
		return nw, err
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{
			Name: portName(address), MasterIndex: bridge, Flags: net.FlagUp,
			NumTxQueues: 1, NumRxQueues: 1, // and not one for each CPU
		},
		PeerName: "eth0", PeerNamespace: netlink.NsPid(pid), PeerNumTxQueues: 1, PeerNumRxQueues: 1,
		// The same address has always the same MAC, so that no ARP cache is ever wrong.
		PeerHardwareAddr: append(net.HardwareAddr{0x02, 0x42}, address...),
	}
	if err := netlink.LinkAdd(port); err != nil {
		return nw, fmt.Errorf("create veth pair %s: %w", port.Name, err)
	}
	// A symlink, because it is there with all that it says, or not at all.
	if err := os.Symlink(strconv.Itoa(port.Index), filepath.Join(portsDir, id)); err != nil {
		return nw, errors.Join(err, netlink.LinkDel(port))
	}
	return network{net.IPNet{IP: address, Mask: subnet.Mask}, subnet.IP, resolvConf()}, nil
}

// disconnect sets the port of the container id down, so that nobody can answer to its address any
// more, not even a process that keeps the network namespace when all others have ended. To remove
// the veth pair would take longer; the kernel does that with the namespace.
func disconnect(id string) error {
	file := filepath.Join(portsDir, id)
	index, err := os.Readlink(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has never been connected
	}
	var port netlink.LinkAttrs
	if err == nil {
		port.Index, err = strconv.Atoi(index)
	}
	if err == nil {
		err = netlink.LinkSetDown(&netlink.Veth{LinkAttrs: port})
	}
	if err != nil && !errors.Is(err, unix.ENODEV) { // the namespace has gone, and the pair with it
		return fmt.Errorf("set port %s down: %w", index, err)
	}
	return os.Remove(file)
}

// makeBridge sees to it that the bridge is there and up, and returns its index and its address,
// which says what the containers' subnet is. links are the host's.
func makeBridge(links []netlink.Link) (index int, address *net.IPNet, err error) {
	bridge := findLink(links, bridgeName)
	if bridge == nil {
		if err := checkRoutes(); err != nil {
			return 0, nil, err
		}
		bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{
			Name: bridgeName,
			// Otherwise it changes with its ports.
			HardwareAddr: net.HardwareAddr{0x02, 0x42, 0, 0, 0, 1},
		}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return 0, nil, fmt.Errorf("create bridge %s: %w", bridgeName, err)
		}
	}
	addresses, err := list(func() ([]netlink.Addr, error) { return netlink.AddrList(bridge, unix.AF_INET) })
	if err == nil && len(addresses) == 0 {
		first, _ := netlink.ParseAddr(bridgeAddress)
		addresses = append(addresses, *first)
		err = netlink.AddrAdd(bridge, first)
	}
	if err == nil && bridge.Attrs().Flags&net.FlagUp == 0 {
		err = netlink.LinkSetUp(bridge)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("bridge %s: %w", bridgeName, err)
	}
	return bridge.Attrs().Index, addresses[0].IPNet, nil
}

// list calls dump, which lists what the kernel has of a kind, until nothing has changed meanwhile.
func list[T any](dump func() ([]T, error)) ([]T, error) {
	found, err := dump()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		found, err = dump()
	}
	return found, err
}

// findLink returns the link called name, or nil.
func findLink(links []netlink.Link, name string) netlink.Link {
	for _, link := range links {
		if link.Attrs().Name == name {
			return link
		}
	}
	return nil
}

// checkRoutes fails if the host knows another way to what is to be the containers' subnet.
// Routes to the world, or to half of it as a VPN sets them, are not meant.
func checkRoutes() error {
	_, subnet, _ := net.ParseCIDR(bridgeAddress)
	routes, err := list(func() ([]netlink.Route, error) { return netlink.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil || route.Dst.Mask[0] <= 0x80 ||
			!route.Dst.Contains(subnet.IP) && !subnet.Contains(route.Dst.IP) {
			continue
		}
		dev := "lo"
		if link, err := net.InterfaceByIndex(route.LinkIndex); err == nil {
			dev = link.Name
		}
		return fmt.Errorf("the containers' subnet %s is in use, by the route to %s on %s; choose another one: "+
			"ip link add %s type bridge && ip address add 10.29.0.1/16 dev %[4]s", subnet, route.Dst, dev, bridgeName)
	}
	return nil
}

// portName is the name of the bridge's port for address. The kernel lets no two links have one
// name, and so no two containers one address.
func portName(address net.IP) string { return "gk-" + hex.EncodeToString(address) }

// findAddress returns the first address of the bridge's subnet that is free. An address is free if
// no port is named after it, or if that port is down. Then its container has ended, and the port
// gets another name.
func findAddress(bridge *net.IPNet, links []netlink.Link) (net.IP, error) {
	ones, bits := bridge.Mask.Size()
	subnet := binary.BigEndian.Uint32(bridge.IP.Mask(bridge.Mask).To4())
	for n := uint32(1); n < 1<<(bits-ones)-1; n++ {
		address := net.IP(binary.BigEndian.AppendUint32(nil, subnet+n))
		if address.Equal(bridge.IP) {
			continue
		}
		port := findLink(links, portName(address))
		if port == nil {
			return address, nil
		}
		if port.Attrs().Flags&net.FlagUp == 0 {
			err := netlink.LinkSetName(port, "gk-"+newID())
			if err != nil && !errors.Is(err, unix.ENODEV) {
				return nil, fmt.Errorf("rename %s: %w", port.Attrs().Name, err)
			}
			return address, nil
		}
	}
	return nil, fmt.Errorf("all addresses of %s are in use", bridge)
}

// resolvConf returns the host's resolv.conf(5) without comments and without name servers that a
// container cannot reach: those on the host's loopback, and by IPv6. Where those are all, they are
// stubs of systemd's or NetworkManager's, which say elsewhere what servers they ask themselves.
func resolvConf() string {
	first := ""
	for i, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"} {
		content, _ := os.ReadFile(file) // the host need not have one
		conf, servers := "", 0
		for line := range strings.Lines(string(content)) {
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

// configureNetwork gives the container's interfaces their addresses, and writes what its programs
// look up in /etc.
func configureNetwork(id string, nw network) error {
	for _, name := range []string{"lo", "eth0"} {
		link, err := netlink.LinkByName(name)
		if err == nil && name == "eth0" { // lo gets its own when it is set up
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &nw.Address})
		}
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: nw.Gateway}); err != nil {
		return fmt.Errorf("default route via %s: %w", nw.Gateway, err)
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	for _, file := range []struct{ path, content string }{
		{"/etc/hostname", id + "\n"},
		{"/etc/hosts", fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", nw.Address.IP, id)},
		{"/etc/resolv.conf", nw.ResolvConf},
	} {
		// In some images it is a symlink that leads nowhere.
		if err := os.RemoveAll(file.path); err != nil {
			return err
		}
		if err := os.WriteFile(file.path, []byte(file.content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
