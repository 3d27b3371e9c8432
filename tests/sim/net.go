package sim

import "time"

// link is a session between two processes. What was sent on a session that broke
// is lost; a new one tells everything again, as sessions do.
type link struct {
	up  bool
	era int
}

// maxNodes is how many processes there are at most.
const maxNodes = 24

// node is a process as the network knows it.
type node struct {
	id   int
	name string
	zone byte // the first letter, that of its data center
	gw   *gateway
	ag   *agent
	near []*node // its neighbours, nil when they have to be looked up
}

func (s *Sim) newNode(name string) *node {
	n := &node{id: len(s.nodes), name: name, zone: name[0]}
	s.nodes = append(s.nodes, n)
	return n
}

func (s *Sim) link(a, b *node) *link { return &s.links[min(a.id, b.id)][max(a.id, b.id)] }

func (s *Sim) delay(from, to *node) time.Duration {
	d := s.between(200*time.Microsecond, 3*time.Millisecond)
	if from.zone != to.zone {
		d += 10 * time.Millisecond
	}
	if s.rough(0.02) {
		d += s.between(0, 2*time.Second)
	}
	return d
}

// deaf reports whether nothing gets from one process to another now.
func (s *Sim) deaf(from, to *node) bool {
	return s.faults && s.now.Before(s.oneway[from.id][to.id])
}

// send delivers f, perhaps twice, unless the session breaks first. Messages
// overtake each other. A one-way partition breaks the session when it is noticed.
func (s *Sim) send(from, to *node, f func()) {
	l := s.link(from, to)
	if !l.up {
		return
	}
	era := l.era
	if s.deaf(from, to) {
		s.after(s.between(300*time.Millisecond, 2*time.Second), func() {
			if l.up && l.era == era {
				s.cut(from, to, 200*time.Millisecond)
			}
		})
		return
	}
	arrive := func() {
		if l.up && l.era == era {
			f()
		}
	}
	if a := to.ag; a != nil {
		runs := arrive
		arrive = func() { a.thawed(runs) }
	}
	s.after(s.delay(from, to), arrive)
	if s.rough(0.02) {
		s.after(s.delay(from, to), arrive)
	}
}

// post is for what may be lost by itself: the agreement repeats it.
func (s *Sim) post(from, to *node, f func()) {
	loss := 0.03
	if s.off.forgetting() {
		loss = 0.3
	}
	if !s.rough(loss) {
		s.send(from, to, f)
	}
}

// cut breaks a session; both ends notice, and connect again after a while.
func (s *Sim) cut(a, b *node, d time.Duration) {
	l := s.link(a, b)
	if l.up {
		l.up = false
		l.era++
		s.noticed(a, b, false)
	}
	era := l.era
	s.after(d, func() {
		if l.era == era && !l.up {
			s.connect(a, b)
		}
	})
}

func (s *Sim) connect(a, b *node) {
	l := s.link(a, b)
	if l.up || !a.alive() || !b.alive() {
		return
	}
	if s.deaf(a, b) || s.deaf(b, a) {
		s.cut(a, b, 200*time.Millisecond)
		return
	}
	l.up = true
	l.era++
	s.noticed(a, b, true)
}

func (n *node) alive() bool {
	if n.gw != nil {
		return n.gw.up
	}
	return n.ag.up
}

func (s *Sim) noticed(a, b *node, up bool) {
	for _, pair := range [2][2]*node{{a, b}, {b, a}} {
		if g := pair[0].gw; g != nil && g.up {
			g.linkChanged(pair[1], up)
		}
	}
}

// neighbours are the sessions that a process has.
func (s *Sim) neighbours(of *node) []*node {
	if of.near != nil {
		return of.near
	}
	for _, g := range s.gateways {
		if g.node != of && (of.gw != nil || g.zone == of.zone) {
			of.near = append(of.near, g.node)
		}
	}
	if of.gw != nil {
		for _, a := range s.agents {
			if a.zone == of.zone {
				of.near = append(of.near, a.node)
			}
		}
	}
	return of.near
}

// forgetNeighbours is for when somebody joined.
func (s *Sim) forgetNeighbours() {
	for _, n := range s.nodes {
		n.near = nil
	}
}
