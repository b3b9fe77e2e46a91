package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// enableForwarding makes the host pass on packets that are not for itself: ip(7).
func enableForwarding() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	value, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(value)) == "1" {
		return err
	}
	return os.WriteFile(file, []byte("1"), 0)
}

// masquerade lets the containers' packets leave their subnet with the address of the host's
// interface that they go out by. As nft(8) would write it:
//
//	table ip gocker {
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ip saddr SUBNET ip daddr != SUBNET masquerade
//		}
//	}
//
// Where the rule is there already nothing is changed: a transaction would wait for all CPUs.
func masquerade(subnet *net.IPNet) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gocker"}
	chain := &nftables.Chain{
		Name:     "postrouting",
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	}
	rule := slices.Concat(matchSource(subnet), matchDestinationNot(subnet), []expr.Any{&expr.Masq{}})
	rules, err := conn.GetRules(table, chain) // fails if there is no such chain
	if err == nil && slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return reflect.DeepEqual(r.Exprs, rule) }) {
		return nil
	}
	conn.AddTable(table)
	conn.AddChain(chain)
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: masquerade: %w", err)
	}
	return nil
}

// matchSource is for packets from subnet. The source address is at byte 12 of the IPv4 header, the
// destination at 16: RFC 791.
func matchSource(subnet *net.IPNet) []expr.Any { return matchAddress(12, expr.CmpOpEq, subnet) }

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

// A firewall is a table of the host's that sees what is passed on.
type firewall struct {
	family, table string // as nft(8) names them
	chains        map[string]*nftables.Chain
	rules         map[string][]*nftables.Rule // by chain
}

// checkForwarding fails if a firewall lets no packet pass that it does not know, as docker's and
// firewalld's do, and does not know the bridge. A packet has to be accepted by every table, so that
// no rule in ours would help, and the others' are not ours to change. Rules that iptables-legacy
// made are not seen: nftables does not know of them.
func checkForwarding() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, base := range chains {
		f := firewall{"ip", base.Table.Name, map[string]*nftables.Chain{}, map[string][]*nftables.Rule{}}
		if base.Table.Family == nftables.TableFamilyINet {
			f.family = "inet"
		} else if base.Table.Family != nftables.TableFamilyIPv4 {
			continue
		}
		if base.Hooknum == nil || *base.Hooknum != *nftables.ChainHookForward {
			continue
		}
		for _, chain := range chains {
			if *chain.Table == *base.Table {
				f.chains[chain.Name] = chain
				f.rules[chain.Name], err = conn.GetRules(chain.Table, chain)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) { // it has just been removed
				return fmt.Errorf("nftables: %w", err)
			}
		}
		if how := f.fate(base.Name); (how == "rule" || how == "policy") && !f.knowsBridge() {
			return fmt.Errorf("packets of containers are dropped by the %s of chain %s, table %s %s; let them pass: %s",
				how, base.Name, f.family, f.table, f.remedy(base.Name))
		}
	}
	return nil
}

// fate returns what decides in chain on all packets that come to its end: a "rule" or the "policy"
// that refuses them, or an "accept". It is "" if they go back to the chain that they came from.
func (f firewall) fate(chain string) string {
	for _, rule := range f.rules[chain] {
		switch e := verdict(rule).(type) {
		case *expr.Reject, *expr.Target: // iptables has a target REJECT
			return "rule"
		case *expr.Verdict:
			switch e.Kind {
			case expr.VerdictDrop:
				return "rule"
			case expr.VerdictAccept:
				return "accept"
			case expr.VerdictJump, expr.VerdictGoto:
				if fate := f.fate(e.Chain); fate != "" {
					return fate
				}
			}
			// From a goto, too, nothing comes back to this chain.
			if e.Kind == expr.VerdictReturn || e.Kind == expr.VerdictGoto {
				return f.policy(chain)
			}
		}
	}
	return f.policy(chain)
}

// policy is "policy" if that of chain is to drop, or else "".
func (f firewall) policy(chain string) string {
	if c := f.chains[chain]; c != nil && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return "policy"
	}
	return ""
}

// verdict returns what rule does with every packet, or nil if that depends on the packet.
func verdict(rule *nftables.Rule) expr.Any {
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
			continue
		case *expr.Reject, *expr.Verdict:
			return e
		case *expr.Target:
			if e.Name == "REJECT" {
				return e
			}
		}
		return nil
	}
	return nil
}

// knowsBridge tells whether a rule of the firewall names the bridge.
func (f firewall) knowsBridge() bool {
	for _, rules := range f.rules {
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if name, ok := e.(*expr.Cmp); ok && bytes.HasPrefix(name.Data, []byte(bridgeName)) {
					return true
				}
			}
		}
	}
	return false
}

// remedy is the command that lets the containers' packets pass chain. What nft(8) wrote into a
// chain of iptables, that would not understand.
func (f firewall) remedy(chain string) string {
	iptables := chain == "FORWARD"
	if f.chains["DOCKER-USER"] != nil {
		chain = "DOCKER-USER" // the place that docker keeps for the rules of others
	}
	if iptables {
		return fmt.Sprintf("iptables -I %s -i %s -j ACCEPT && iptables -I %[1]s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			chain, bridgeName)
	}
	return fmt.Sprintf("nft insert rule %s %s %s iifname %s accept && nft insert rule %[1]s %s %s oifname %s ct state established,related accept",
		f.family, f.table, chain, bridgeName)
}
