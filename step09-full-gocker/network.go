package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	dockercontainer "github.com/moby/moby/api/types/container"
	dockernetwork "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	portsDir   = runDir + "/ports" // ADDRESS, a link to "ID INDEX": whose it is, and the index of its port
	bridgeName = "gocker0"
	// The bridge's address and with it the containers' subnet, unless gocker0 is there already
	// and has another.
	bridgeAddress = "172.29.0.1/16"
)

// A network is what the container has of one while it runs.
type network struct {
	Mode    string                // bridge, none, host or container:ID
	Address netip.Prefix          // of eth0; only in the mode bridge, like all that follows
	Gateway netip.Addr            // the bridge's
	MAC     string                // of eth0
	Port    int                   // the index of the bridge's port that leads to eth0: netdevice(7)
	Ports   dockernetwork.PortMap // all exposed ports, those that are published with where
}

// chooseNetwork sees to it, when c is created, that c.HostConfig.NetworkMode is one of the four
// that there are, and goes with the rest. For container:NAME it becomes container:ID. The host name
// is the host's or the other container's, if c has to share it.
func chooseNetwork(c *container) error {
	mode := c.HostConfig.NetworkMode
	switch {
	case mode == "" || mode.IsDefault():
		c.HostConfig.NetworkMode = dockernetwork.NetworkBridge
	case mode.IsBridge(), mode.IsNone():
	case mode.IsHost():
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		if c.Config.Hostname == "" {
			c.Config.Hostname = name
		}
		if len(c.HostConfig.PortBindings) > 0 || c.HostConfig.PublishAllPorts {
			fmt.Fprintln(os.Stderr, "WARNING: Published ports are discarded when using host network mode")
		}
	case mode.IsContainer():
		return joinContainer(c, mode.ConnectedContainer())
	default:
		return fmt.Errorf("network %s not found: gocker has bridge, host, none and container:NAME", mode)
	}
	return nil
}

// joinContainer makes the network of the container called name c's.
func joinContainer(c *container, name string) error {
	conflict := ""
	switch host := c.HostConfig; {
	case c.Config.Hostname != "":
		conflict = "hostname and the network mode"
	case len(host.DNS)+len(host.DNSSearch)+len(host.DNSOptions) > 0:
		conflict = "dns and the network mode"
	case len(host.ExtraHosts) > 0:
		conflict = "custom host-to-IP mapping and the network mode"
	case len(host.PortBindings) > 0 || host.PublishAllPorts:
		conflict = "port publishing and the container type network mode"
	}
	if conflict != "" {
		return errors.New("conflicting options: " + conflict)
	}
	other, err := findContainer(name)
	if err != nil {
		return err
	}
	c.HostConfig.NetworkMode = dockercontainer.NetworkMode("container:" + other.ID)
	c.Config.Hostname, c.Config.Domainname = other.Config.Hostname, other.Config.Domainname
	return nil
}

// networkNamespace returns the network namespace that the OCI spec of c is to have, or false if
// there is none in it, because c stays in the host's: config-linux.md, Namespaces. It fails if it
// is that of another container, which does not run.
func networkNamespace(c *container) (ns specs.LinuxNamespace, ok bool, err error) {
	ns.Type = specs.NetworkNamespace
	mode := c.HostConfig.NetworkMode
	if mode.IsHost() {
		return ns, false, nil
	}
	if !mode.IsContainer() {
		return ns, true, nil
	}
	other, err := findContainer(mode.ConnectedContainer())
	if err != nil {
		return ns, false, err
	}
	pid := other.pid()
	if pid == 0 {
		return ns, false, fmt.Errorf("cannot join network of a non running container: %s", other.ID)
	}
	ns.Path = namespacePath(pid)
	return ns, true, nil
}

// namespacePath is the network namespace of the process pid: namespaces(7).
func namespacePath(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// onBridge tells whether c has an address, and ports, of its own.
func onBridge(c *container) bool {
	mode := c.HostConfig.NetworkMode
	return mode.IsPrivate() && !mode.IsNone()
}

// prepareNetwork is what can be done for c's network before there is a process of it: it writes
// the files for its /etc, takes its ports, and refuses what could not work. disconnect takes it
// back, and is to be called in the same process, which holds the ports.
func prepareNetwork(c *container) error {
	c.Network = network{Mode: string(c.HostConfig.NetworkMode), Ports: dockernetwork.PortMap{}}
	if err := writeEtc(c); err != nil {
		return err
	}
	if !onBridge(c) {
		return nil
	}
	if err := passDocker(); err != nil {
		return err
	}
	if err := checkForwarding(); err != nil {
		return err
	}
	return reservePorts(c)
}

// connect gives the network namespace of the process pid, c's, what c's mode of network says. In
// the mode bridge that is an interface eth0, one end of a veth pair, veth(4), whose other end is a
// port of the bridge. c.Network says then how it is connected, and c's ports lead there. disconnect
// takes all of that back, also what a connect that failed has made.
func connect(c *container, pid int) error {
	switch {
	case c.HostConfig.NetworkMode.IsNone():
		return configureNetwork(pid, nil)
	case !onBridge(c):
		return nil
	}
	if err := attach(c, pid); err != nil {
		return err
	}
	if err := configureNetwork(pid, &c.Network); err != nil {
		return err
	}
	return writeHosts(c)
}

// attach is the host's half of connect: the bridge, its rules, the veth pair.
func attach(c *container, pid int) error {
	lock, err := lockNetwork() // one at a time: what is made on first use is made once
	if err != nil {
		return err
	}
	defer lock.Close()
	links, err := list(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	bridge, subnet, err := makeBridge(links)
	if err != nil {
		return err
	}
	if err := enableForwarding(); err != nil {
		return err
	}
	if err := makeTable(subnet); err != nil {
		return err
	}
	address, err := findAddress(subnet, links)
	if err != nil {
		return err
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
		return fmt.Errorf("create veth pair %s: %w", port.Name, err)
	}
	// A link, because it is there with all that it says, or not at all. One of a container that
	// has died is replaced, and that one's disconnect will not touch what is ours.
	lease := filepath.Join(portsDir, address.String())
	err = os.Remove(lease)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = os.Symlink(fmt.Sprintf("%s %d", c.ID, port.Index), lease)
	}
	if err != nil {
		return errors.Join(err, netlink.LinkDel(port))
	}
	ones, _ := subnet.Mask.Size()
	ip, _ := netip.AddrFromSlice(address)
	gateway, _ := netip.AddrFromSlice(subnet.IP.To4())
	c.Network.Address = netip.PrefixFrom(ip, ones)
	c.Network.Gateway = gateway
	c.Network.MAC = port.PeerHardwareAddr.String()
	c.Network.Port = port.Index
	if err := netlink.LinkSetHairpin(port, len(published(c.Network.Ports)) > 0); err != nil {
		return fmt.Errorf("hairpin mode of %s: %w", port.Name, err)
	}
	return publishPorts(ip, c.Network.Ports)
}

// disconnect takes back what prepareNetwork and connect have done for c, as far as they came. It
// sets c's port down, so that nobody can answer to its address any more, not even a process that
// keeps the network namespace when all others have ended. To remove the veth pair would take
// longer; the kernel does that with the namespace.
func disconnect(c *container) error {
	c.Network = network{}
	defer releasePorts(c.ID)
	if !onBridge(c) {
		return nil
	}
	lock, err := lockNetwork()
	if err != nil {
		return err
	}
	defer lock.Close()
	address, port, err := findLease(c.ID)
	if err != nil || !address.IsValid() { // it is not connected
		return err
	}
	if err := publishPorts(address, nil); err != nil {
		return err
	}
	err = netlink.LinkSetDown(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: port}})
	if err != nil && !errors.Is(err, unix.ENODEV) { // the namespace has gone, and the pair with it
		return fmt.Errorf("set port %d down: %w", port, err)
	}
	return os.Remove(filepath.Join(portsDir, address.String()))
}

// lockNetwork waits until no other gocker changes what is common to all containers of the network.
// Closing the file unlocks.
func lockNetwork() (*os.File, error) {
	if err := os.MkdirAll(portsDir, 0o700); err != nil {
		return nil, err
	}
	return lockDir(portsDir, unix.LOCK_EX)
}

// findLease returns the address that the container id has, and the index of its port. It has none
// if the address is not valid.
func findLease(id string) (address netip.Addr, port int, err error) {
	entries, err := os.ReadDir(portsDir)
	if err != nil {
		return address, 0, err
	}
	for _, entry := range entries {
		lease, err := os.Readlink(filepath.Join(portsDir, entry.Name()))
		if err != nil {
			return address, 0, err
		}
		owner, index, _ := strings.Cut(lease, " ")
		if owner != id {
			continue
		}
		if port, err = strconv.Atoi(index); err != nil {
			return address, 0, fmt.Errorf("%s/%s: %w", portsDir, entry.Name(), err)
		}
		address, err = netip.ParseAddr(entry.Name())
		return address, port, err
	}
	return address, 0, nil
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
			Name:         bridgeName,
			HardwareAddr: net.HardwareAddr{0x02, 0x42, 0, 0, 0, 1}, // otherwise it changes with its ports
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

// removeBridge removes the bridge with its rules, here and in docker's chain, unless a container is
// connected to it.
func removeBridge() error {
	lock, err := lockNetwork()
	if err != nil {
		return err
	}
	defer lock.Close()
	links, err := list(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	bridge := findLink(links, bridgeName)
	for _, link := range links {
		if bridge != nil && link.Attrs().MasterIndex == bridge.Attrs().Index && link.Attrs().Flags&net.FlagUp != 0 {
			return nil
		}
	}
	if err := removeRules(); err != nil {
		return err
	}
	if bridge == nil {
		return nil
	}
	if err := netlink.LinkDel(bridge); err != nil {
		return fmt.Errorf("remove bridge %s: %w", bridgeName, err)
	}
	return nil
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

// findAddress returns the first address of the bridge's subnet that is free. It is while no port
// has its name, or one that is down: its container has ended, and it gets another name.
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
			err := netlink.LinkSetName(port, "gk-"+newID()[:12]) // 15 characters: netdevice(7)
			if err != nil && !errors.Is(err, unix.ENODEV) {
				return nil, fmt.Errorf("rename %s: %w", port.Attrs().Name, err)
			}
			return address, nil
		}
	}
	return nil, fmt.Errorf("all addresses of %s are in use", bridge)
}

// configureNetwork sets up lo in the network namespace of the process pid, and, if there is an nw,
// eth0 with its address and the route through it.
func configureNetwork(pid int, nw *network) error {
	handle, err := openNetlink(namespacePath(pid))
	if err != nil {
		return err
	}
	defer handle.Close()
	for _, name := range []string{"lo", "eth0"} {
		if name == "eth0" && nw == nil {
			return nil
		}
		link, err := handle.LinkByName(name)
		if err == nil && name == "eth0" { // lo gets its own when it is set up
			address := &net.IPNet{
				IP:   nw.Address.Addr().AsSlice(),
				Mask: net.CIDRMask(nw.Address.Bits(), nw.Address.Addr().BitLen()),
			}
			err = handle.AddrAdd(link, &netlink.Addr{IPNet: address})
		}
		if err == nil {
			err = handle.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
	}
	if err := handle.RouteAdd(&netlink.Route{Gw: nw.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("default route via %s: %w", nw.Gateway, err)
	}
	return nil
}

// openNetlink opens an rtnetlink(7) socket in the network namespace path. A socket stays in the
// namespace it was opened in, whoever uses it from wherever.
//
// A namespace belongs to a thread: setns(2) changes the one that calls, while the Go runtime moves
// a goroutine from thread to thread and hands a thread on to others. A program that does not lock
// the two together (runtime.LockOSThread), and let the thread end with the goroutine, sooner or
// later starts a container in the host's namespace. So the thread that opens the socket never comes
// back. It is not the process's first one, which could not end, and which main keeps for itself.
func openNetlink(path string) (handle *netlink.Handle, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and no unlock: the thread ends
		handle, err = openNetlinkHere(path)
	}()
	<-done
	return handle, err
}

// openNetlinkHere moves the thread that it is called on.
func openNetlinkHere(path string) (*netlink.Handle, error) {
	namespace, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("setns %s: %w", path, err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink in %s: %w", path, err)
	}
	return handle, nil
}

// hostGateway is the address "host-gateway" of --add-host: where containers reach the host.
func hostGateway() netip.Addr {
	gateway := netip.MustParsePrefix(bridgeAddress).Addr()
	bridge, err := net.InterfaceByName(bridgeName)
	if err != nil {
		return gateway // it is made by the first container, with that address
	}
	addresses, _ := bridge.Addrs()
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().Is4() {
			return prefix.Addr()
		}
	}
	return gateway
}
