package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-connections/nat"
	"github.com/fvbommel/sortorder"
	"github.com/google/nftables"
	dockercontainer "github.com/moby/moby/api/types/container"
	dockernetwork "github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// parsePorts parses what stands after -p, "[[IP:][HOSTPORT]:]PORT[/PROTOCOL]" with ranges
// "FIRST-LAST", and after --expose. The ports that are published are exposed, too.
func parsePorts(publish, expose []string) (dockernetwork.PortSet, dockernetwork.PortMap, error) {
	_, specs, err := nat.ParsePortSpecs(publish)
	if err != nil {
		return nil, nil, err
	}
	exposed, bindings := dockernetwork.PortSet{}, dockernetwork.PortMap{}
	for spec, wanted := range specs {
		port, err := dockernetwork.ParsePort(string(spec))
		if err != nil {
			return nil, nil, err
		}
		if port.Proto() != dockernetwork.TCP && port.Proto() != dockernetwork.UDP {
			return nil, nil, fmt.Errorf("port %s: gocker publishes tcp and udp", port)
		}
		exposed[port] = struct{}{}
		for _, binding := range wanted {
			address := netip.Addr{}
			if binding.HostIP != "" {
				address, err = netip.ParseAddr(binding.HostIP)
			}
			if err != nil {
				return nil, nil, err
			}
			if address.Is6() {
				return nil, nil, fmt.Errorf("port %s on %s: gocker has no IPv6", port, address)
			}
			bindings[port] = append(bindings[port],
				dockernetwork.PortBinding{HostIP: address, HostPort: binding.HostPort})
		}
	}
	for _, text := range expose {
		ports, err := dockernetwork.ParsePortRange(text)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %w", err)
		}
		for port := range ports.All() {
			exposed[port] = struct{}{}
		}
	}
	return exposed, bindings, nil
}

// A publication is a port of a container that is published, or is to be.
type publication struct {
	port        dockernetwork.Port
	address     netip.Addr // of the host's; 0.0.0.0 for all
	first, last int        // the host's ports, one of which it is to be; 0 is any
}

// String is as docker's port has it.
func (p publication) String() string {
	return net.JoinHostPort(p.address.String(), strconv.Itoa(p.first))
}

// published returns those of the ports in ports, which reservePorts has written, that are.
func published(ports dockernetwork.PortMap) []publication {
	var all []publication
	for port, bindings := range ports {
		for _, binding := range bindings {
			number, _ := strconv.Atoi(binding.HostPort)
			all = append(all, publication{port, binding.HostIP, number, number})
		}
	}
	return all
}

// publications returns what c's flags want to be published: the ports on given ones of the host's
// first, so that those that may have any take none of these.
func publications(c *container) ([]publication, error) {
	bindings := dockernetwork.PortMap{}
	for port := range c.Config.ExposedPorts {
		if c.HostConfig.PublishAllPorts {
			bindings[port] = []dockernetwork.PortBinding{{}}
		}
	}
	maps.Copy(bindings, c.HostConfig.PortBindings)
	var one, some, any []publication
	for port, wanted := range bindings {
		for _, binding := range wanted {
			p := publication{port: port, address: binding.HostIP}
			if !p.address.IsValid() {
				p.address = netip.IPv4Unspecified()
			}
			if binding.HostPort != "" {
				first, last, err := nat.ParsePortRangeToInt(binding.HostPort)
				if err != nil {
					return nil, fmt.Errorf("port %s: %w", port, err)
				}
				p.first, p.last = first, last
			}
			switch {
			case p.last == 0:
				any = append(any, p)
			case p.first < p.last:
				some = append(some, p)
			default:
				one = append(one, p)
			}
		}
	}
	return slices.Concat(one, some, any), nil
}

// reserved has the sockets that hold ports, by the ID of the container that is published there.
var reserved = struct {
	sync.Mutex
	sockets map[string][]io.Closer
}{sockets: map[string][]io.Closer{}}

// reservePorts takes the host's ports that c's are published on, and says in c.Network.Ports which
// ones these are. They are taken as every program takes one: by a socket that is bound to it,
// which no packet ever comes to. So nobody else gets one of them while this process lives, and what
// is in use already is an error.
func reservePorts(c *container) error {
	for port := range c.Config.ExposedPorts {
		c.Network.Ports[port] = nil
	}
	wanted, err := publications(c)
	if err != nil {
		return err
	}
	for _, p := range wanted {
		socket, number, err := p.reserve()
		if err != nil {
			if errors.Is(err, unix.EADDRINUSE) && isAllocated(c, p) {
				err = fmt.Errorf("Bind for %s failed: port is already allocated", p)
			}
			return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", c.Name, c.ID, err)
		}
		reserved.Lock()
		reserved.sockets[c.ID] = append(reserved.sockets[c.ID], socket)
		reserved.Unlock()
		c.Network.Ports[p.port] = append(c.Network.Ports[p.port],
			dockernetwork.PortBinding{HostIP: p.address, HostPort: strconv.Itoa(number)})
	}
	return nil
}

// releasePorts gives up the ports of the container id.
func releasePorts(id string) {
	reserved.Lock()
	defer reserved.Unlock()
	for _, socket := range reserved.sockets[id] {
		socket.Close()
	}
	delete(reserved.sockets, id)
}

// reserve takes the first of the host's ports that is free, and returns which one that is.
func (p publication) reserve() (socket io.Closer, number int, err error) {
	for try := p.first; try <= p.last; try++ {
		socket, number, err = p.listen(try)
		if err == nil {
			return socket, number, nil
		}
	}
	return nil, 0, err
}

// listen binds a socket to the host's port number. If that is 0 the kernel chooses one,
// ip_local_port_range in ip(7), and it is returned.
func (p publication) listen(number int) (io.Closer, int, error) {
	if p.port.Proto() == dockernetwork.UDP {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: p.address.AsSlice(), Port: number})
		if err != nil {
			return nil, 0, err
		}
		return conn, conn.LocalAddr().(*net.UDPAddr).Port, nil
	}
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: p.address.AsSlice(), Port: number})
	if err != nil {
		return nil, 0, err
	}
	go refuse(listener)
	return listener, listener.Addr().(*net.TCPAddr).Port, nil
}

// refuse resets all connections that come to a listener that is only there to keep its port: so it
// is before the container is connected, and when somebody has removed our rules.
func refuse(listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		conn.SetLinger(0) // RST instead of FIN: socket(7)
		conn.Close()
	}
}

// isAllocated tells whether another container that runs has the host's port that p wants.
func isAllocated(c *container, p publication) bool {
	entries, err := os.ReadDir(containersDir)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		other, err := loadContainer(filepath.Base(entry.Name()))
		if err != nil || other.ID == c.ID || !other.running() {
			continue
		}
		for _, q := range published(other.Network.Ports) {
			sameAddress := q.address == p.address || q.address.IsUnspecified() || p.address.IsUnspecified()
			if q.port.Proto() == p.port.Proto() && sameAddress && p.first <= q.first && q.first <= p.last {
				return true
			}
		}
	}
	return false
}

// publishPorts makes the host's ports in ports, and no others, lead to the container with that
// address. What the maps have of a container that had the address, or a port, before is of a dead
// one, whose gocker has been killed: the sockets of reservePorts leave no other way.
func publishPorts(address netip.Addr, ports dockernetwork.PortMap) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	one, all := ourMaps()
	changed, udp := false, false
	for _, m := range []*nftables.Set{one, all} {
		wanted := elements(ports, address, m == all)
		found, err := conn.GetSetElements(m)
		if err != nil {
			return fmt.Errorf("nftables: elements of map %s: %w", m.Name, err)
		}
		var stale []nftables.SetElement
		for _, element := range found {
			isWanted := func(w nftables.SetElement) bool { return string(w.Key) == string(element.Key) }
			if string(element.Val[:4]) == string(address.AsSlice()) || slices.ContainsFunc(wanted, isWanted) {
				stale = append(stale, nftables.SetElement{Key: element.Key})
			}
		}
		if len(stale) > 0 {
			err = conn.SetDeleteElements(m, stale)
		}
		if err == nil && len(wanted) > 0 {
			err = conn.SetAddElements(m, wanted)
		}
		if err != nil {
			return fmt.Errorf("nftables: elements of map %s: %w", m.Name, err)
		}
		for _, element := range slices.Concat(stale, wanted) {
			changed = true
			udp = udp || element.Key[0] == unix.IPPROTO_UDP
		}
	}
	if !changed {
		return nil
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: publish ports: %w", err)
	}
	if !udp {
		return nil
	}
	return forgetFlows(address, ports)
}

// elements returns those for one of ourMaps: that of ports on all addresses of the host's, if
// everywhere. Each part of a key and of a value has 4 bytes.
func elements(ports dockernetwork.PortMap, to netip.Addr, everywhere bool) []nftables.SetElement {
	protocols := map[dockernetwork.IPProtocol]byte{dockernetwork.TCP: unix.IPPROTO_TCP, dockernetwork.UDP: unix.IPPROTO_UDP}
	var all []nftables.SetElement
	for _, p := range published(ports) {
		if p.address.IsUnspecified() != everywhere {
			continue
		}
		key := []byte{protocols[p.port.Proto()], 0, 0, 0}
		if !everywhere {
			key = append(key, p.address.AsSlice()...)
		}
		all = append(all, nftables.SetElement{
			Key: append(key, portBytes(uint16(p.first))...),
			Val: append(to.AsSlice(), portBytes(p.port.Num())...),
		})
	}
	return all
}

func portBytes(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

// oldFlows are the UDP flows, in the kernel's table of connections, that a container's ports must
// not go on with: those to the address, which another one had before, and those to the host's ports
// that began when these led nowhere. A flow's first packet decides where all others go.
type oldFlows struct {
	address net.IP
	ports   map[uint16]bool
	local   []net.Addr // the host's addresses
}

// MatchConntrackFlow tells whether flow is one of them.
func (o oldFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	if flow.Reverse.SrcIP.Equal(o.address) {
		return true
	}
	isDestination := func(a net.Addr) bool { return a.(*net.IPNet).IP.Equal(flow.Forward.DstIP) }
	return o.ports[flow.Forward.DstPort] && slices.ContainsFunc(o.local, isDestination)
}

// forgetFlows removes the UDP flows from before a change of what leads to address.
func forgetFlows(address netip.Addr, ports dockernetwork.PortMap) error {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	flows := oldFlows{address.AsSlice(), map[uint16]bool{}, local}
	for _, p := range published(ports) {
		if p.port.Proto() == dockernetwork.UDP {
			flows.ports[uint16(p.first)] = true
		}
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, flows); err != nil {
		return fmt.Errorf("forget old UDP flows: %w", err)
	}
	return nil
}

// portSummaries returns c's exposed and published ports as docker's client wants to have them.
func portSummaries(c *container) []dockercontainer.PortSummary {
	var all []dockercontainer.PortSummary
	for port, bindings := range c.Network.Ports {
		if len(bindings) == 0 {
			all = append(all, dockercontainer.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
	}
	for _, p := range published(c.Network.Ports) {
		all = append(all, dockercontainer.PortSummary{
			IP: p.address, PublicPort: uint16(p.first), PrivatePort: p.port.Num(), Type: string(p.port.Proto()),
		})
	}
	return all
}

// portsText is what ps has in its column PORTS.
func portsText(c *container) string { return formatter.DisplayablePorts(portSummaries(c)) }

// portCommand lists where ports of a container are published: "80/tcp -> 0.0.0.0:8080".
func portCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short:             "List port mappings or a specific mapping for the container",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeContainers,
		RunE: func(command *cobra.Command, args []string) error {
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			var wanted dockernetwork.Port
			if len(args) == 2 {
				if wanted, err = dockernetwork.ParsePort(args[1]); err != nil {
					return err
				}
			}
			var lines []string
			for _, p := range published(c.Network.Ports) {
				switch {
				case wanted.IsZero():
					lines = append(lines, fmt.Sprintf("%s -> %s", p.port, p))
				case wanted == p.port:
					lines = append(lines, p.String())
				}
			}
			if len(lines) == 0 && !wanted.IsZero() {
				return fmt.Errorf("No public port '%s' published for %s", wanted, args[0])
			}
			slices.SortFunc(lines, sortorder.NaturalCompare)
			for _, line := range lines {
				fmt.Fprintln(command.OutOrStdout(), line)
			}
			return nil
		},
	}
}
