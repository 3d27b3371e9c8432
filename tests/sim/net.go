package sim

import "time"

// link is a session between two processes. What was sent on a session that broke
// is lost; a new one tells everything again, as sessions do.
type link struct {
	up  bool
	era int
}

func linkKey(a, b string) string { return min(a, b) + "|" + max(a, b) }

func (s *Sim) link(a, b string) *link {
	key := linkKey(a, b)
	l := s.links[key]
	if l == nil {
		l = &link{}
		s.links[key] = l
	}
	return l
}

func (s *Sim) delay(from, to string) time.Duration {
	d := s.between(200*time.Microsecond, 3*time.Millisecond)
	if from[0] != to[0] {
		d += 10 * time.Millisecond
	}
	if s.rough(0.02) {
		d += s.between(0, 2*time.Second)
	}
	return d
}

// deaf reports whether nothing gets from one process to another now.
func (s *Sim) deaf(from, to string) bool {
	until, ok := s.oneway[from+">"+to]
	return ok && s.faults && s.now.Before(until)
}

// send delivers f, perhaps twice, unless the session breaks first. Messages
// overtake each other. A one-way partition breaks the session when it is noticed.
func (s *Sim) send(from, to string, f func()) {
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
	s.after(s.delay(from, to), arrive)
	if s.rough(0.02) {
		s.after(s.delay(from, to), arrive)
	}
}

// post is for what may be lost by itself: the agreement repeats it.
func (s *Sim) post(from, to string, f func()) {
	loss := 0.03
	if s.off.forgetting() {
		loss = 0.3
	}
	if !s.rough(loss) {
		s.send(from, to, f)
	}
}

// cut breaks a session; both ends notice, and connect again after a while.
func (s *Sim) cut(a, b string, d time.Duration) {
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

func (s *Sim) connect(a, b string) {
	l := s.link(a, b)
	if l.up || !s.alive(a) || !s.alive(b) {
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

func (s *Sim) alive(name string) bool {
	if g := s.gateway(name); g != nil {
		return g.up
	}
	return s.agent(name).up
}

func (s *Sim) noticed(a, b string, up bool) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if g := s.gateway(pair[0]); g != nil && g.up {
			g.linkChanged(pair[1], up)
		}
	}
}

// neighbours are the sessions that a process has.
func (s *Sim) neighbours(name string) []string {
	var out []string
	own := s.gateway(name) != nil
	for _, g := range s.gateways {
		if g.name != name && (own || g.name[0] == name[0]) {
			out = append(out, g.name)
		}
	}
	if own {
		for _, a := range s.agents {
			if a.name[0] == name[0] {
				out = append(out, a.name)
			}
		}
	}
	return out
}
