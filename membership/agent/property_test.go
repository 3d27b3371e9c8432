package agent

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// scene is all that the log and the gateways could have for instance "a":
// orders and grants that a property run draws from, in any order.
type scene struct {
	w          *world
	blocks     []*signalbox.DecidedBlock
	grants     []granted
	admissions map[signalbox.Term]map[int]uint64 // by term and grant: the admission to serve by
	newest     *signalbox.DecidedBlock
}

func newScene(t testing.TB) *scene {
	w := newWorld(t, 3, 2)
	s := &scene{w: w, admissions: map[signalbox.Term]map[int]uint64{}}
	grant := func(g granted, term signalbox.Term, by uint64) {
		if s.admissions[term] == nil {
			s.admissions[term] = map[int]uint64{}
		}
		s.admissions[term][len(s.grants)] = by
		s.grants = append(s.grants, g)
	}
	adopted, cert := w.adopt("a", "b")
	grant(granted{certificate: cert}, 1, adopted.Index)
	again := w.admission("a", 1)
	grant(granted{certificate: cert, admission: again.Raw}, 1, again.Index)
	for _, by := range []uint64{adopted.Index, again.Index} {
		block := w.handover(8, "east", "west", []string{"x"}, w.entry("b", "east", adopted.Index), w.entry("a", "east", by))
		grant(granted{certificate: w.certify(block, true)}, 9, by)
		grant(granted{certificate: w.certify(block, false)}, 8, 0)
		s.blocks = append(s.blocks, block)
	}
	back := w.request(10, "west", "east", []string{"a", "b"}, w.entry("x", "west", s.blocks[0].Index))
	back.Fallback = 0
	superseding := w.decide(signalbox.Request{Handover: back})
	grant(granted{certificate: w.certify(superseding, false)}, 10, superseding.Index)
	away := w.request(12, "east", "west", []string{"x"}, w.entry("a", "east", superseding.Index))
	away.Fallback = 0
	s.newest = w.decide(signalbox.Request{Handover: away})
	s.blocks = append(s.blocks, s.newest)
	grant(granted{certificate: w.certify(s.newest, false)}, 12, 0)
	late := w.admission("a", 10)
	grant(granted{admission: late.Raw}, 10, late.Index)
	return s
}

// judge watches what one instance does and says, over all its lives.
type judge struct {
	r       *rig
	s       *scene
	given   map[int]bool // grants that it got
	answers map[signalbox.Digest]signalbox.StatementKind
	acked   signalbox.Term
	left    uint64
	voters  map[signalbox.Identity]bool // that answered in this run of the instance
	unseen  bool                        // the instance was started and the driver could not tell yet
	crashIn int                         // effects until a crash, -1 for none
	bad     string
}

func (j *judge) blame(format string, args ...any) {
	if j.bad == "" {
		j.bad = fmt.Sprintf(format, args...)
	}
}

// see checks an effect against rules 2 and 4, and crashes when it is time.
func (j *judge) see(e effect) bool {
	if j.crashIn == 0 {
		return false
	}
	if j.crashIn > 0 {
		j.crashIn--
	}
	switch e := e.(type) {
	case promote:
		j.promoted(e.order.Term)
	case say:
		j.said(j.r.w.open("a", e.evidence.Envelope))
	}
	return true
}

func (j *judge) promoted(term signalbox.Term) {
	if term < j.acked {
		j.blame("promoted to %d below the ack of %d", term, j.acked)
	}
	if len(j.voters) < 2 && !j.r.master && !j.unseen {
		j.blame("promoted to %d after a start that %d voters know of", term, len(j.voters))
	}
	var by uint64
	for grant, admission := range j.s.admissions[term] {
		if j.given[grant] {
			by = max(by, admission)
		}
	}
	if by <= j.left {
		j.blame("promoted to %d by admission %d, left %d", term, by, j.left)
	}
}

func (j *judge) said(s signalbox.Statement) {
	r := j.r
	switch s.Kind {
	case signalbox.SaysAck, signalbox.SaysRefuse:
		if before, ok := j.answers[s.Block]; ok && before != s.Kind {
			j.blame("answered %s after %s to the block of term %d", s.Kind, before, s.Term)
		} else if !ok && s.Kind == signalbox.SaysAck && (r.master || r.inFlight > 0) {
			j.blame("acked %d while open or with %d in flight", s.Term, r.inFlight)
		}
		j.answers[s.Block] = s.Kind
		if s.Kind == signalbox.SaysAck {
			j.acked = max(j.acked, s.Term)
			if r.hard.Floor < s.Term {
				j.blame("acked %d before it was durable", s.Term)
			}
		}
		if r.master && r.term < j.acked {
			j.blame("serves %d below the ack of %d", r.term, j.acked)
		}
	case signalbox.SaysLeave:
		j.left = max(j.left, s.Admission)
		if r.hard.Left < s.Admission || r.master {
			j.blame("left while open, or before it was durable")
		}
	}
}

func (j *judge) actions() map[string]func(*rapid.T) {
	r := j.r
	newRun := func() { j.voters, j.unseen = map[signalbox.Identity]bool{}, false }
	report := func() {
		if j.unseen && !r.down && !r.dead {
			newRun()
		}
		r.reportNow()
	}
	return map[string]func(*rapid.T){
		"order": func(t *rapid.T) {
			kind := rapid.SampledFrom([]wire.OrderKind{drainOrder, ackOrder, refuseOrder}).Draw(t, "kind")
			block := rapid.IntRange(0, len(j.s.blocks)-1).Draw(t, "block")
			r.step(ordered{gateway: "g", kind: kind, decided: j.s.blocks[block].Raw})
		},
		"grant": func(t *rapid.T) {
			n := rapid.IntRange(0, len(j.s.grants)-1).Draw(t, "grant")
			j.given[n] = true
			r.step(j.s.grants[n])
		},
		"answer": func(t *rapid.T) {
			v := rapid.IntRange(0, 2).Draw(t, "voter")
			if r.nonce == nil || r.dead {
				return
			}
			j.voters[rpc.IdentityOf(j.s.w.voterKeys()[v])] = true
			r.step(answered{raw: j.s.w.answer(v, r.w.id("a"), bytes.Clone(r.nonce), j.s.newest)})
		},
		"request": func(*rapid.T) {
			if r.master {
				r.inFlight++
			}
		},
		"response": func(*rapid.T) {
			if r.inFlight > 0 {
				r.inFlight--
			}
			r.step(ticked{})
		},
		"time":      func(t *rapid.T) { r.pass(time.Duration(rapid.IntRange(1, 6000).Draw(t, "ms")) * time.Millisecond) },
		"report":    func(*rapid.T) { report() },
		"connected": func(*rapid.T) { r.step(connected{gateway: "g"}) },
		"stop": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "one in four") == 0 {
				r.step(stopping{})
			}
		},
		"quiet":  func(*rapid.T) { r.step(quieted{}) },
		"crash":  func(t *rapid.T) { j.crashIn = rapid.IntRange(0, 6).Draw(t, "in") },
		"driver": func(*rapid.T) { r.down = !r.down },
		"agent starts again": func(*rapid.T) {
			j.crashIn = -1
			r.start()
		},
		"instance starts again": func(*rapid.T) {
			r.master, r.inFlight, j.unseen = false, 0, true
			r.run++
			r.work()
			report()
		},
		"machine starts again": func(t *rapid.T) {
			newRun()
			j.crashIn = -1
			if rapid.Bool().Draw(t, "cache lost") {
				r.disk = r.hard.clone()
			}
			r.restart()
		},
		"": func(t *rapid.T) {
			if j.bad != "" {
				t.Fatal(j.bad)
			}
		},
	}
}

// Rules 2 and 4, over crashes at every effect: one answer for each block, durable
// before it is said; an ack only while closed and empty; never served below an
// ack, by an admission that was left, or after a start that no quorum knows of.
func TestRulesOverCrashes(t *testing.T) {
	s := newScene(t)
	for run := range 6 { // rapid's number of checks is a flag: many short runs instead
		t.Run(fmt.Sprint(run), rapid.MakeCheck(func(rt *rapid.T) {
			j := &judge{
				s: s, given: map[int]bool{}, answers: map[signalbox.Digest]signalbox.StatementKind{},
				voters: map[signalbox.Identity]bool{}, crashIn: -1,
			}
			j.r = newRig(t, s.w, "a", "east")
			j.r.watch = j.see
			actions := j.actions()
			if rapid.Bool().Draw(rt, "serving at first") {
				j.serve()
			}
			rt.Repeat(actions)
		}))
	}
}

// serve makes the instance master of term 1.
func (j *judge) serve() {
	j.r.reportNow()
	for v := range 2 {
		j.voters[rpc.IdentityOf(j.s.w.voterKeys()[v])] = true
		j.r.step(answered{raw: j.s.w.answer(v, j.r.w.id("a"), j.r.nonce, j.s.newest)})
	}
	j.given[0] = true
	j.r.step(j.s.grants[0])
}
