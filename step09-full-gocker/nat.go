package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// enableForwarding makes the host pass on packets that are not for itself, and lets its own ones
// from 127.0.0.1 leave by the bridge, to a port of a container that is published there: ip(7), and
// ip-sysctl in the kernel's documentation. The chain martians is there because of the latter.
func enableForwarding() error {
	for _, file := range []string{"ip_forward", "conf/" + bridgeName + "/route_localnet"} {
		file = "/proc/sys/net/ipv4/" + file
		value, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(value)) == "1" {
			continue
		}
		if err := os.WriteFile(file, []byte("1"), 0); err != nil {
			return err
		}
	}
	return nil
}

// ourTable is where all rules of ours are. nft(8) shows it as
//
//	table ip gocker {
//	  map published {
//	    type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
//	  }
//	  map everywhere {
//	    type inet_proto . inet_service : ipv4_addr . inet_service
//	  }
//	  chain martians {
//	    type filter hook prerouting priority raw
//	    iifname != "lo" ip daddr 127.0.0.0/8 drop
//	    iifname != "lo" ip saddr 127.0.0.0/8 drop
//	  }
//	  chain prerouting {
//	    type nat hook prerouting priority dstnat
//	    fib daddr type local dnat ip to ip protocol . ip daddr . th dport map @published
//	    fib daddr type local dnat ip to ip protocol . th dport map @everywhere
//	  }
//	  chain output {
//	    type nat hook output priority dstnat
//	    (the same)
//	  }
//	  chain forward {
//	    type filter hook forward priority filter
//	    iifname != "gocker0" oifname "gocker0"
//	      ct state ! established,related ct status ! dnat drop
//	  }
//	  chain postrouting {
//	    type nat hook postrouting priority srcnat
//	    ip saddr SUBNET ip daddr != SUBNET masquerade
//	    ip saddr SUBNET ip daddr SUBNET ct status dnat masquerade
//	    ip saddr 127.0.0.0/8 oifname "gocker0" masquerade
//	  }
//	}
//
// The maps say where the ports lead that are published on one address of the host's, or on all.
var ourTable = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gocker"}

// A ruledChain is a base chain with its rules.
type ruledChain struct {
	*nftables.Chain
	rules [][]expr.Any
}

// ourChains returns the chains of ourTable. subnet is the containers'.
func ourChains(subnet *net.IPNet) []ruledChain {
	loopback := &net.IPNet{IP: net.IPv4(127, 0, 0, 0), Mask: net.CIDRMask(8, 32)}
	nat, filter := nftables.ChainTypeNAT, nftables.ChainTypeFilter
	return []ruledChain{
		// What comes from outside with an address of the loopback's, which a port on
		// 127.0.0.1 would let in, and route_localnet the host.
		newChain("martians", filter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
			slices.Concat(matchIn(expr.CmpOpNeq, "lo"), matchDestination(loopback), drop()),
			slices.Concat(matchIn(expr.CmpOpNeq, "lo"), matchSource(loopback), drop())),
		// From elsewhere, and from the host itself. A packet that is only routed through
		// the host is for somebody else, whatever its port.
		newChain("prerouting", nat, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
			slices.Concat(matchLocal(), translate("published", true)),
			slices.Concat(matchLocal(), translate("everywhere", false))),
		newChain("output", nat, nftables.ChainHookOutput, nftables.ChainPriorityNATDest,
			slices.Concat(matchLocal(), translate("published", true)),
			slices.Concat(matchLocal(), translate("everywhere", false))),
		// From outside one can reach what is published, and nothing else.
		newChain("forward", filter, nftables.ChainHookForward, nftables.ChainPriorityFilter,
			slices.Concat(matchIn(expr.CmpOpNeq, bridgeName), matchOut(bridgeName),
				matchConntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpEq),
				matchConntrack(expr.CtKeySTATUS, statusDNAT, expr.CmpOpEq), drop())),
		// Containers leave their subnet with the address of the host's interface that they
		// go out by. They reach each other, and themselves, by the host's address if the
		// answer comes back here instead of going straight to the asker, who has never
		// heard of that address. And nobody can answer to 127.0.0.1.
		newChain("postrouting", nat, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
			slices.Concat(matchSource(subnet), matchDestinationNot(subnet), []expr.Any{&expr.Masq{}}),
			slices.Concat(matchSource(subnet), matchDestination(subnet),
				matchConntrack(expr.CtKeySTATUS, statusDNAT, expr.CmpOpNeq), []expr.Any{&expr.Masq{}}),
			slices.Concat(matchSource(loopback), matchOut(bridgeName), []expr.Any{&expr.Masq{}})),
	}
}

func newChain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority,
	rules ...[]expr.Any) ruledChain {
	chain := &nftables.Chain{Name: name, Table: ourTable, Type: kind, Hooknum: hook, Priority: priority}
	return ruledChain{chain, rules}
}

// ourMaps returns the maps of ourTable.
func ourMaps() (published, everywhere *nftables.Set) {
	to := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	published = &nftables.Set{Table: ourTable, Name: "published", IsMap: true, DataType: to,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService)}
	everywhere = &nftables.Set{Table: ourTable, Name: "everywhere", IsMap: true, DataType: to,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)}
	return published, everywhere
}

// makeTable sees to it that ourTable is there with all of its chains and rules. Where they are
// there already nothing is changed: a transaction would wait for all CPUs.
func makeTable(subnet *net.IPNet) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer conn.CloseLasting()
	var missing []*nftables.Rule
	chains := ourChains(subnet)
	for _, chain := range chains {
		rules, err := conn.GetRules(ourTable, chain.Chain) // none if there is no such chain
		if err != nil {
			return fmt.Errorf("nftables: rules of chain %s: %w", chain.Name, err)
		}
		for _, rule := range chain.rules {
			if findRule(rules, rule) == nil {
				missing = append(missing, &nftables.Rule{Table: ourTable, Chain: chain.Chain, Exprs: rule})
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	conn.AddTable(ourTable)
	published, everywhere := ourMaps()
	if err := errors.Join(conn.AddSet(published, nil), conn.AddSet(everywhere, nil)); err != nil {
		return fmt.Errorf("nftables: maps: %w", err)
	}
	for _, chain := range chains {
		conn.AddChain(chain.Chain)
	}
	for _, rule := range missing {
		conn.AddRule(rule)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: create table gocker: %w", err)
	}
	return nil
}

// findRule returns that of rules which has these expressions, whatever its counters have counted,
// or nil.
func findRule(rules []*nftables.Rule, exprs []expr.Any) *nftables.Rule {
	isCounter := func(e expr.Any) bool { _, is := e.(*expr.Counter); return is }
	wanted := slices.DeleteFunc(slices.Clone(exprs), isCounter)
	for _, rule := range rules {
		if reflect.DeepEqual(slices.DeleteFunc(slices.Clone(rule.Exprs), isCounter), wanted) {
			return rule
		}
	}
	return nil
}

// The source address is at byte 12 of the IPv4 header, the destination at 16, the protocol at 9:
// RFC 791. matchSource is for packets from subnet.
func matchSource(subnet *net.IPNet) []expr.Any { return matchAddress(12, expr.CmpOpEq, subnet) }

// matchDestination is for packets to subnet.
func matchDestination(subnet *net.IPNet) []expr.Any { return matchAddress(16, expr.CmpOpEq, subnet) }

// matchDestinationNot is for packets to anywhere but subnet.
func matchDestinationNot(subnet *net.IPNet) []expr.Any {
	return matchAddress(16, expr.CmpOpNeq, subnet)
}

func matchAddress(offset uint32, op expr.CmpOp, subnet *net.IPNet) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: subnet.Mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: subnet.IP.Mask(subnet.Mask).To4()},
	}
}

// matchIn is for packets that come in by the interface, or with CmpOpNeq by another one.
func matchIn(op expr.CmpOp, name string) []expr.Any {
	return matchInterface(expr.MetaKeyIIFNAME, op, name)
}

// matchOut is for packets that go out by the interface.
func matchOut(name string) []expr.Any {
	return matchInterface(expr.MetaKeyOIFNAME, expr.CmpOpEq, name)
}

// The name is compared with the 0 at its end, as iptables does: without it gocker01 would do, too.
func matchInterface(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte(name + "\x00")}}
}

// matchLocal is for packets to an address of the host's.
func matchLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// statusDNAT is IPS_DST_NAT in linux/netfilter/nf_conntrack_common.h: the connection's first packet
// was for another address.
const statusDNAT = 1 << 5

// matchConntrack is for packets of connections that have none of the bits, or with CmpOpNeq some.
func matchConntrack(key expr.CtKey, bits uint32, op expr.CmpOp) []expr.Any {
	none := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: none},
		&expr.Cmp{Op: op, Register: 1, Data: none},
	}
}

// translate looks up in the map where the packet is to go instead. The key is its protocol, its
// destination, if address says so, and its port. UDP and TCP have that at the same place: RFC 768,
// RFC 9293. Each part has a register of 4 bytes, the first of which the kernel calls NFT_REG_1, as
// it calls the 16 bytes that begin there. What would be left out is written as the kernel gives it
// back, for findRule.
func translate(name string, address bool) []expr.Any {
	next := uint32(unix.NFT_REG32_01)
	exprs := []expr.Any{&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: 9, Len: 1}}
	if address {
		exprs = append(exprs, &expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4})
		next++
	}
	return append(exprs,
		&expr.Payload{DestRegister: next, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name, DestRegister: unix.NFT_REG_1, IsDestRegSet: true},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, Specified: true,
			RegAddrMin: unix.NFT_REG_1, RegAddrMax: unix.NFT_REG_1,
			RegProtoMin: unix.NFT_REG32_01, RegProtoMax: unix.NFT_REG32_01})
}

func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
