package gossip

import (
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// presence is who is there, as memberlist last said. memberlist calls it with
// its own lock held, so nothing here calls memberlist.
type presence struct {
	self string

	mu      sync.Mutex
	members map[string]peer
}

type peer struct {
	Member
	node memberlist.Node // a copy: memberlist changes its own
}

func newPresence(self string) *presence {
	return &presence{self: self, members: make(map[string]peer)}
}

func peerOf(n *memberlist.Node) (peer, error) {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		return peer{}, err
	}
	node := *n
	node.Addr, node.Meta = slices.Clone(n.Addr), nil
	address := net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
	return peer{Member{n.Name, address, meta}, node}, nil
}

// room says whether one more member of that name may be taken in.
func (p *presence) room(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.members[name]
	return known || len(p.members) < MaxMembers
}

func (p *presence) put(m peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members[m.Name] = m
}

func (p *presence) remove(name string) (Member, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.members[name]
	delete(p.members, name)
	return m.Member, ok
}

func (p *presence) node(name string) (memberlist.Node, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.members[name]
	return m.node, ok
}

func (p *presence) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members)
}

func (p *presence) count(role Role) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range p.members {
		if m.Role == role {
			n++
		}
	}
	return n
}

func (p *presence) list() []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	members := make([]Member, 0, len(p.members))
	for _, m := range p.members {
		members = append(members, m.Member)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

func (p *presence) hasAddress(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.Address == address {
			return true
		}
	}
	return false
}

// gateways returns the gateways other than this member, at most MaxDirect.
func (p *presence) gateways() []memberlist.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	var nodes []memberlist.Node
	for name, m := range p.members {
		if m.Role == RoleGateway && name != p.self && len(nodes) < MaxDirect {
			nodes = append(nodes, m.node)
		}
	}
	return nodes
}

// sample returns up to k random members, without this one and those in except.
func (p *presence) sample(k int, except []memberlist.Node) []memberlist.Node {
	if k <= 0 {
		return nil
	}
	skip := make(map[string]struct{}, len(except)+1)
	skip[p.self] = struct{}{}
	for i := range except {
		skip[except[i].Name] = struct{}{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Reservoir sampling: one pass, every member equally likely.
	nodes := make([]memberlist.Node, 0, k)
	seen := 0
	for name, m := range p.members {
		if _, ok := skip[name]; ok {
			continue
		}
		seen++
		if len(nodes) < k {
			nodes = append(nodes, m.node)
		} else if i := rand.IntN(seen); i < k {
			nodes[i] = m.node
		}
	}
	return nodes
}

// events hands changes of presence to a slow receiver without blocking the fast
// sender: the newest event of each member waits.
type events struct {
	wake chan struct{}

	mu      sync.Mutex
	order   []string
	pending map[string]Event
}

func newEvents() *events {
	return &events{wake: make(chan struct{}, 1), pending: make(map[string]Event)}
}

// put never blocks; it returns false when there was no room.
func (e *events) put(ev Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := ev.Member.Name
	if old, ok := e.pending[name]; ok {
		// A join that was not delivered yet stays a join when it is updated.
		if old.Kind == EventJoin && ev.Kind == EventUpdate {
			ev.Kind = EventJoin
		}
	} else if len(e.order) >= maxPendingEvents {
		return false
	} else {
		e.order = append(e.order, name)
	}
	e.pending[name] = ev
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return true
}

func (e *events) take() (Event, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.order) == 0 {
		return Event{}, false
	}
	name := e.order[0]
	e.order = e.order[1:]
	ev := e.pending[name]
	delete(e.pending, name)
	return ev, true
}
