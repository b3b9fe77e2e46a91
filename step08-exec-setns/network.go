package main

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "gocker0"
	// The bridge's address and with it the containers' subnet, unless gocker0 is
	// there already and has another.
	bridgeAddress = "172.29.0.1/16"
	// In this file byte N is locked while the Nth address of the subnet is in use.
	leasesFile = "/run/gocker/addresses"
)

// A network is what init has to know of the container's.
type network struct {
	Address    net.IPNet // of eth0
	Gateway    net.IP    // the bridge's
	ResolvConf string    // resolv.conf(5)
}

// connect gives the network namespace of the process pid an interface eth0 that is
// one end of a veth pair, veth(4), whose other end is a port of the bridge. The
// address is the container's until lease is closed.
//
// None of our threads goes there for that. A namespace belongs to a thread: setns(2)
// and unshare(2) change the one that calls, while the Go runtime moves a goroutine
// from thread to thread and hands a thread on to others. A program that does not
// lock the two together (runtime.LockOSThread), and let the thread end with the
// goroutine, sooner or later starts a container in the host's namespace. Here the
// child is born in its namespace, clone(2), the kernel makes eth0 in it, and init,
// all of whose threads are there, gives it the address.
func connect(id string, pid int) (nw network, lease *os.File, err error) {
	if err := os.MkdirAll("/run/gocker", 0o700); err != nil {
		return nw, nil, err
	}
	lease, err = os.OpenFile(leasesFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nw, nil, err
	}
	// One at a time: what is made on first use is made once.
	if err := unix.Flock(int(lease.Fd()), unix.LOCK_EX); err != nil {
		return nw, lease, fmt.Errorf("flock %s: %w", leasesFile, err)
	}
	defer unix.Flock(int(lease.Fd()), unix.LOCK_UN)
	bridge, subnet, err := makeBridge()
	if err != nil {
		return nw, lease, err
	}
	nw.Gateway, nw.ResolvConf = subnet.IP, resolvConf()
	if nw.Address, err = leaseAddress(lease, subnet); err != nil {
		return nw, lease, err
	}
	if err := cmp.Or(enableForwarding(), masquerade(subnet), checkForwarding()); err != nil {
		return nw, lease, err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "gk-" + id, MasterIndex: bridge, Flags: net.FlagUp},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsPid(pid),
		// The same address has always the same MAC, so that no ARP cache is ever wrong.
		PeerHardwareAddr: append(net.HardwareAddr{0x02, 0x42}, nw.Address.IP...),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nw, lease, fmt.Errorf("create veth pair %s: %w", veth.Name, err)
	}
	return nw, lease, nil
}

// makeBridge sees to it that the bridge is there and up, and returns its index and its
// address, which says what the containers' subnet is.
func makeBridge() (index int, address *net.IPNet, err error) {
	bridge, err := netlink.LinkByName(bridgeName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		if err := checkRoutes(); err != nil {
			return 0, nil, err
		}
		bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{
			Name:         bridgeName,
			HardwareAddr: net.HardwareAddr{0x02, 0x42, 0, 0, 0, 1}, // otherwise it changes with its ports
		}}
		err = netlink.LinkAdd(bridge)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("bridge %s: %w", bridgeName, err)
	}
	addresses, err := netlink.AddrList(bridge, unix.AF_INET)
	if err == nil && len(addresses) == 0 {
		first, _ := netlink.ParseAddr(bridgeAddress)
		addresses, err = append(addresses, *first), netlink.AddrAdd(bridge, first)
	}
	if err = cmp.Or(err, netlink.LinkSetUp(bridge)); err != nil {
		return 0, nil, fmt.Errorf("bridge %s: %w", bridgeName, err)
	}
	return bridge.Attrs().Index, addresses[0].IPNet, nil
}

// checkRoutes fails if the host knows another way to what is to be the containers'
// subnet. Routes to the world, or to half of it as a VPN sets them, are not meant.
func checkRoutes() error {
	_, subnet, _ := net.ParseCIDR(bridgeAddress)
	routes, err := netlink.RouteList(nil, unix.AF_INET)
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
	return err
}

// leaseAddress returns an address of the bridge's subnet that no other container has.
// The lock on its byte of the file ends with the last descriptor that is open for
// it, and so with gocker, whatever ends that: fcntl(2), open file description locks.
func leaseAddress(leases *os.File, bridge *net.IPNet) (address net.IPNet, err error) {
	ones, bits := bridge.Mask.Size()
	gateway := binary.BigEndian.Uint32(bridge.IP.To4())
	subnet := gateway &^ (1<<(bits-ones) - 1)
	for n := int64(1); n < 1<<(bits-ones)-1; n++ {
		if subnet+uint32(n) == gateway {
			continue
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: n, Len: 1}
		err := unix.FcntlFlock(leases.Fd(), unix.F_OFD_SETLK, &lock)
		if err == nil {
			return net.IPNet{IP: binary.BigEndian.AppendUint32(nil, subnet+uint32(n)), Mask: bridge.Mask}, nil
		} else if err != unix.EAGAIN {
			return address, fmt.Errorf("lock %s: %w", leases.Name(), err)
		}
	}
	return address, fmt.Errorf("all addresses of %s are in use", bridge)
}

// resolvConf returns the host's resolv.conf(5) without name servers that only the
// host can reach: those at loopback and IPv6 addresses. Where those are all, they are stubs of systemd's or NetworkManager's,
// which say elsewhere what servers they ask themselves.
func resolvConf() (conf string) {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"} {
		content, _ := os.ReadFile(path) // the host need not have one
		conf = loopbackServer.ReplaceAllString(string(content), "")
		if strings.Contains(conf, "nameserver") {
			break
		}
	}
	return conf
}

var loopbackServer = regexp.MustCompile(`(?m)^\s*(nameserver\s+(127\.|\S*:)|#).*(\n|$)`)

// receiveNetwork waits, in the container, for what run sends through the open file fd
// once eth0 is there. It fails only if run has failed.
func receiveNetwork(fd uintptr) (nw network, err error) {
	return nw, json.NewDecoder(os.NewFile(fd, "network")).Decode(&nw)
}

// configureNetwork gives the container's interfaces their addresses, and writes what
// its programs look up in /etc.
func configureNetwork(id string, nw network) error {
	for name, address := range map[string]*net.IPNet{"lo": nil, "eth0": &nw.Address} {
		link, err := netlink.LinkByName(name)
		if err == nil && address != nil { // lo has its own as soon as it is up
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: address})
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
	for path, content := range map[string]string{
		"/etc/hostname":    id + "\n",
		"/etc/hosts":       fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", nw.Address.IP, id),
		"/etc/resolv.conf": nw.ResolvConf,
	} {
		os.Remove(path) // in some images it is a link that leads nowhere
		if err := cmp.Or(os.MkdirAll("/etc", 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			return err
		}
	}
	return nil
}
