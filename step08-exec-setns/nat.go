package main

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// enableForwarding makes the host pass on packets that are not for itself: ip(7).
func enableForwarding() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	if value, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(value)) == "1" {
		return nil
	}
	return writeFile(file, "1")
}

// masquerade lets the containers' packets leave their subnet with the address of the
// host's interface that they go out by. As nft(8) would write it:
//
//	table ip gocker {
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ip saddr SUBNET ip daddr != SUBNET masquerade
//		}
//	}
//
// One transaction replaces the table as a whole, so that it is always right.
func masquerade(bridge *net.IPNet) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gocker"})
	conn.FlushTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name:     "postrouting",
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	})
	// The source address lies at byte 12 of an IPv4 header, the destination at 16: RFC 791.
	inSubnet := func(offset uint32, op expr.CmpOp) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: bridge.Mask, Xor: make([]byte, 4)},
			&expr.Cmp{Op: op, Register: 1, Data: bridge.IP.Mask(bridge.Mask).To4()},
		}
	}
	exprs := append(inSubnet(12, expr.CmpOpEq), inSubnet(16, expr.CmpOpNeq)...)
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(exprs, &expr.Masq{})})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: masquerade: %w", err)
	}
	return nil
}

// checkForwarding fails if a firewall drops what it does not know, as docker's does,
// and does not know the bridge. A packet has to be accepted by every table, so that
// no rule in ours would help, and the others' are not ours to change.
func checkForwarding() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	chains, err := conn.ListChains()
	for _, base := range chains {
		family := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyINet: "inet"}[base.Table.Family]
		if family == "" || base.Hooknum == nil || *base.Hooknum != *nftables.ChainHookForward ||
			base.Policy == nil || *base.Policy != nftables.ChainPolicyDrop {
			continue
		}
		known, chain := false, base.Name
		for _, c := range chains {
			if *c.Table != *base.Table {
				continue
			}
			if c.Name == "DOCKER-USER" { // the place that docker keeps for the rules of others
				chain = c.Name
			}
			rules, e := conn.GetRules(c.Table, c)
			err = cmp.Or(err, e)
			for _, rule := range rules {
				known = known || slices.ContainsFunc(rule.Exprs, func(e expr.Any) bool {
					name, ok := e.(*expr.Cmp)
					return ok && bytes.HasPrefix(name.Data, []byte(bridgeName))
				})
			}
		}
		if err == nil && !known {
			remedy := fmt.Sprintf("nft insert rule %s %s %s iifname %s accept && nft insert rule %[1]s %s %s oifname %s ct state established,related accept",
				family, base.Table.Name, chain, bridgeName)
			if base.Name == "FORWARD" { // iptables's; it would not understand what nft(8) writes there
				remedy = fmt.Sprintf("iptables -I %s -i %s -j ACCEPT && iptables -I %[1]s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
					chain, bridgeName)
			}
			return fmt.Errorf("packets of containers are dropped by the policy of chain %s, table %s %s; let them pass: %s",
				base.Name, family, base.Table.Name, remedy)
		}
	}
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}
