package main

import (
	"bytes"
	"fmt"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// dockerUser is the chain that docker's firewall asks first, and that it keeps for others' rules:
// what they accept, docker does not drop.
var dockerUser = &nftables.Chain{
	Name:  "DOCKER-USER",
	Table: &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"},
}

// ruleIn and ruleOut let the packets of our containers pass, and those for them: answers, and what
// comes to a port that is published.
const (
	ruleIn  = "-i " + bridgeName + " -j ACCEPT"
	ruleOut = "-o " + bridgeName + " -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
)

// dockerRules are ruleIn and ruleOut for DOCKER-USER. iptables(8), which owns the table, has to
// understand them, so they are as it writes them, with its own match conntrack and a counter each.
func dockerRules() [][]expr.Any {
	// XT_CONNTRACK_STATE_BIT in linux/netfilter/xt_conntrack.h.
	const established, related, dnat = 1 << 1, 1 << 2, 1 << 7
	address, mask := net.IPv4zero.To4(), net.IPMask(net.IPv4zero.To4())
	state := &xt.ConntrackMtinfo3{ConntrackMtinfo2: xt.ConntrackMtinfo2{
		ConntrackMtinfoBase: xt.ConntrackMtinfoBase{
			MatchFlags:  uint16(xt.ConntrackState),
			OrigSrcAddr: address, OrigSrcMask: mask, OrigDstAddr: address, OrigDstMask: mask,
			ReplSrcAddr: address, ReplSrcMask: mask, ReplDstAddr: address, ReplDstMask: mask,
		},
		StateMask: established | related | dnat,
	}}
	return [][]expr.Any{
		slices.Concat(matchIn(expr.CmpOpEq, bridgeName), []expr.Any{&expr.Counter{}}, accept()),
		slices.Concat(matchOut(bridgeName),
			[]expr.Any{&expr.Match{Name: "conntrack", Rev: 3, Info: state}, &expr.Counter{}}, accept()),
	}
}

// passDocker puts those of dockerRules into DOCKER-USER that are not there yet, where there is a
// docker, or was one. They outlive docker's restarts, and go with the bridge.
func passDocker() error {
	lock, err := lockNetwork()
	if err != nil {
		return err
	}
	defer lock.Close()
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	rules, found, err := dockerUserRules(conn)
	if err != nil || !found {
		return err
	}
	missing := 0
	for _, rule := range slices.Backward(dockerRules()) { // each is inserted before all others
		if findRule(rules, rule) == nil {
			conn.InsertRule(&nftables.Rule{Table: dockerUser.Table, Chain: dockerUser, Exprs: rule})
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: insert rules in chain DOCKER-USER: %w", err)
	}
	return nil
}

// dockerUserRules returns the rules of DOCKER-USER, and whether there is such a chain.
func dockerUserRules(conn *nftables.Conn) (rules []*nftables.Rule, found bool, err error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, false, fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, chain := range chains {
		if chain.Name != dockerUser.Name || chain.Table.Name != dockerUser.Table.Name {
			continue
		}
		rules, err := conn.GetRules(dockerUser.Table, dockerUser)
		if err != nil {
			return nil, true, fmt.Errorf("nftables: rules of chain DOCKER-USER: %w", err)
		}
		return rules, true, nil
	}
	return nil, false, nil
}

// removeRules removes ourTable, and dockerRules where they are in DOCKER-USER.
func removeRules() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	rules, _, err := dockerUserRules(conn)
	if err != nil {
		return err
	}
	for _, exprs := range dockerRules() {
		rule := findRule(rules, exprs)
		if rule == nil {
			continue
		}
		rule.Chain, rule.Table = dockerUser, dockerUser.Table
		if err := conn.DelRule(rule); err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
	}
	tables, err := conn.ListTablesOfFamily(ourTable.Family)
	if err != nil {
		return fmt.Errorf("nftables: list tables: %w", err)
	}
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == ourTable.Name }) {
		conn.DelTable(ourTable)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: remove rules: %w", err)
	}
	return nil
}

// A firewall is a table of the host's that sees what is passed on.
type firewall struct {
	family, table string // as nft(8) names them
	chains        map[string]*nftables.Chain
	rules         map[string][]*nftables.Rule // by chain
}

// checkForwarding fails if a firewall lets no packet pass that it does not know, as firewalld's
// does, and does not know the bridge. A packet has to be accepted by every table, so that no rule
// in ours would help, and the others' are not ours to change. Docker's is passDocker's affair.
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
			if err != nil {
				return fmt.Errorf("nftables: %w", err)
			}
		}
		if f.family == "ip" && f.table == dockerUser.Table.Name && f.chains[dockerUser.Name] != nil {
			continue
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
			case expr.VerdictReturn:
				return f.policy(chain)
			case expr.VerdictJump, expr.VerdictGoto:
				if fate := f.fate(e.Chain); fate != "" {
					return fate
				}
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
		case *expr.Reject, *expr.Verdict:
			return e
		case *expr.Target:
			if e.Name == "REJECT" {
				return e
			}
			return nil
		default:
			return nil
		}
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

// remedy is the command that lets the containers' packets pass chain. iptables would not understand
// what nft(8) writes into its chains.
func (f firewall) remedy(chain string) string {
	if chain == "FORWARD" {
		return iptablesRemedy(chain)
	}
	insert := fmt.Sprintf("nft insert rule %s %s %s ", f.family, f.table, chain)
	return insert + "iifname " + bridgeName + " accept && " +
		insert + "oifname " + bridgeName + " ct state established,related accept && " +
		insert + "oifname " + bridgeName + " ct status dnat accept"
}

func iptablesRemedy(chain string) string {
	return "iptables -I " + chain + " " + ruleIn + " && iptables -I " + chain + " " + ruleOut
}
