package model

import "math/bits"

// Op is what happened in one step.
type Op uint8

// The steps.
const (
	opAppend  Op = iota // the voters append an entry
	opForget            // the voters lose their newest entry
	opAck               // the agent closes the gate, persists, signs
	opRefuse            // the agent persists, signs
	opLeave             // orderly stop, then a new process
	opCrash             // kill -9, then a new process
	opRestore           // the disk or image is restored
	opAsk               // the voters answer the nonce of the new process
	opFence             // somebody else proves that the process is off, then a new process
	opLapse             // voters promise to grant no lease, wait, sign
	opExpire            // a lease runs out
	opServe             // the agent opens the gate
)

// Action is one step: who, about which log entry, and what was appended.
type Action struct {
	Op    Op
	X     ID
	K     int   // index of the block, or of the admission a leave names
	Term  uint8 // opServe
	Entry Entry // opAppend
}

// stepper collects the successors of one state.
type stepper struct {
	rules  Rules
	bounds Bounds
	from   *State
	visit  func(Action, State)
}

// Successors calls visit with every step possible from s.
func Successors(r Rules, b Bounds, s *State, visit func(Action, State)) {
	st := stepper{rules: r, bounds: b, from: s, visit: visit}
	st.voters()
	for x := range ID(idents) {
		if s.Alive.Has(x) {
			st.serve(x)
			st.answer(x)
			st.leave(x)
			st.process(x)
			st.fence(x)
			st.lapse(x)
		}
	}
}

// serve opens the gate at a term that x has a right to.
func (st *stepper) serve(x ID) {
	var buf [8]right
	var done uint64
	for _, t := range st.servable(x, buf[:0]) {
		if done>>t.term&1 == 1 || !st.rules.mayServe(st.from, x, t) {
			continue
		}
		done |= 1 << t.term
		next := *st.from
		next.Inst[x].Serving = t.term
		st.visit(Action{Op: opServe, X: x, Term: t.term}, next)
	}
}

// servable is the rights of x; without the rule also those of any other identity in its data center.
func (st *stepper) servable(x ID, out []right) []right {
	if st.rules.ServeNeedsListing {
		return st.from.Log.rights(x, out)
	}
	for y := range ID(idents) {
		if y.DC() == x.DC() {
			out = st.from.Log.rights(y, out)
		}
	}
	return out
}

// answer gives an ack or a refuse to any block, known now or long ago.
func (st *stepper) answer(x ID) {
	for k := 1; k < int(st.from.Log.Len); k++ {
		e := &st.from.Log.E[k]
		i := &st.from.Inst[x]
		if !i.SaidAck.has(k) && st.rules.mayAnswer(st.from, x, k, false) {
			next := *st.from
			n := &next.Inst[x]
			n.Acked |= 1 << k
			n.SaidAck |= 1 << k
			if st.rules.AckClosesGate && n.Serving < e.Term {
				n.Serving = 0
			}
			st.visit(Action{Op: opAck, X: x, K: k}, next)
		}
		if !i.SaidNo.has(k) && st.rules.mayAnswer(st.from, x, k, true) {
			next := *st.from
			next.Inst[x].Refused |= 1 << k
			next.Inst[x].SaidNo |= 1 << k
			st.visit(Action{Op: opRefuse, X: x, K: k}, next)
		}
	}
}

// leave is an orderly stop. The agent names any admission that it may know of, newer than the one it left last.
func (st *stepper) leave(x ID) {
	i := &st.from.Inst[x]
	if st.from.leaves() >= st.bounds.Leaves || i.Leaves[1] != 0 {
		return
	}
	for k := int(i.Left); k < int(st.from.Log.Len); k++ {
		if st.from.Log.admission(x, k+1) != k {
			continue
		}
		next := *st.from
		n := &next.Inst[x]
		n.Left = uint8(k + 1)
		n.addLeave(uint8(k+1)<<4 | uint8((n.Acked | n.Refused).newest()))
		st.newProcess(&next, x)
		st.visit(Action{Op: opLeave, X: x, K: k}, next)
	}
}

func (i *Inst) addLeave(leave uint8) {
	switch {
	case i.Leaves[0] == 0:
		i.Leaves[0] = leave
	case i.Leaves[0] < leave:
		i.Leaves[1] = leave
	case i.Leaves[0] > leave:
		i.Leaves = [2]uint8{leave, i.Leaves[0]}
	}
}

func (s *State) leaves() int {
	n := 0
	for x := range s.Inst {
		for _, leave := range s.Inst[x].Leaves {
			if leave != 0 {
				n++
			}
		}
	}
	return n
}

// newProcess is what a stop and a start leave: what is on disk. A stopped instance does nothing, so being down needs no state of
// its own: it is a new process that has not acted yet.
func (st *stepper) newProcess(next *State, x ID) {
	i := &next.Inst[x]
	i.Serving = 0
	if st.rules.NonceIsFresh || i.Asked == 0 {
		i.Asked = 0
	} else if i.Asked == sinceAdoption {
		i.Asked = st.answerOf(&next.Log, x)
	}
	if !st.rules.PersistBeforeAck {
		i.Acked = 0
	}
	if !st.rules.PersistBeforeRefuse {
		i.Refused = 0
	}
	if !st.rules.PersistBeforeLeave {
		i.Left = 0
	}
}

// process is a crash, a restored disk, and the question after the start.
func (st *stepper) process(x ID) {
	s := st.from
	if int(s.Crashes) < st.bounds.Crashes {
		next := *s
		st.newProcess(&next, x)
		if next != *s {
			next.Crashes++
			st.visit(Action{Op: opCrash, X: x}, next)
		}
	}
	if int(s.Restores) < st.bounds.Restores && x < originals {
		st.restore(x)
	}
	if i := s.Inst[x]; i.Asked != sinceAdoption {
		if answer := st.answerOf(&s.Log, x); i.Asked < answer {
			next := *s
			next.Inst[x].Asked = answer
			st.visit(Action{Op: opAsk, X: x}, next)
		}
	}
}

// answerOf is what the voters answer to a nonce: the head of the log, told apart only as far as it can matter.
func (st *stepper) answerOf(l *Log, x ID) uint8 {
	k := int(l.Len) - 1
	for k > 0 && st.rules.NonceSeesEveryBlock && !st.rules.takesAway(l, x, k) {
		k--
	}
	return uint8(k + 1)
}

// restore puts an older disk or image of x into use. It holds no key, so another identity appears, while the original may go on
// (the image may run beside it). Without rule 8 the same key goes on with nothing on its disk.
func (st *stepper) restore(x ID) {
	next := *st.from
	next.Restores++
	if st.rules.NewKeyAfterRollback {
		next.Alive |= one(originals + ID(x.DC()))
		next.CopyOf[x.DC()] = uint8(x + 1)
	} else {
		st.newProcess(&next, x)
		i := &next.Inst[x]
		i.Acked, i.Refused, i.Left = 0, 0, 0
	}
	st.visit(Action{Op: opRestore, X: x}, next)
}

// fence lets somebody else prove that the process is off, for a block that allows it or for a removal.
func (st *stepper) fence(x ID) {
	if st.from.fences() >= st.bounds.Fences {
		return
	}
	for k := 1; k < int(st.from.Log.Len); k++ {
		if st.from.takenBy(x, k) && !st.from.Inst[x].Fenced.has(k) {
			next := *st.from
			next.Inst[x].Fenced |= 1 << k
			st.newProcess(&next, x)
			st.visit(Action{Op: opFence, X: x, K: k}, next)
		}
	}
	if !st.rules.RemovalIsAnnounced && st.bounds.Removes > 0 && st.from.Inst[x].UnboundFence == 0 && st.rules.outstanding(&st.from.Log, 0).Has(x) {
		next := *st.from
		next.Inst[x].UnboundFence = 1
		st.newProcess(&next, x)
		st.visit(Action{Op: opFence, X: x}, next)
	}
}

// takenBy says whether others may give evidence about x for the entry at k.
func (s *State) takenBy(x ID, k int) bool {
	e := &s.Log.E[k]
	return e.Kind == Handover && e.has(AllowsMore) && e.Roster.Has(x) || e.Kind == Announce && ID(e.Ref) == x
}

// lapse has the voters sign that x has no lease any more, for a block that allows it or an announcement: they promise to grant none,
// and wait until any that they granted has run out. A lease may run out at any time.
func (st *stepper) lapse(x ID) {
	s := st.from
	if st.bounds.Lapses == 0 {
		return
	}
	serving := s.Inst[x].Serving
	if serving > 0 && st.rules.holdsLease(s, x) {
		next := *s
		next.Inst[x].Serving = 0
		st.visit(Action{Op: opExpire, X: x}, next)
	}
	if s.count(func(i *Inst) Blocks { return i.Lapsed }) >= st.bounds.Lapses {
		return
	}
	for k := 1; k < int(s.Log.Len); k++ {
		before := s.Log.before(k)
		if !s.takenBy(x, k) || s.Inst[x].Lapsed.has(k) || st.rules.LapseNeedsLeases && before.couldServeUnleased(x) {
			continue
		}
		if st.rules.LapseWaits && serving > 0 && serving < s.Log.E[k].Term && st.rules.holdsLease(s, x) {
			continue
		}
		next := *s
		next.Inst[x].Lapsed |= 1 << k
		st.visit(Action{Op: opLapse, X: x, K: k}, next)
	}
}

// fences counts what has been fenced; each bit is one.
func (s *State) fences() int {
	n := s.count(func(i *Inst) Blocks { return i.Fenced })
	for x := range s.Inst {
		n += int(s.Inst[x].UnboundFence)
	}
	return n
}

func (s *State) count(of func(*Inst) Blocks) (n int) {
	for x := range s.Inst {
		n += bits.OnesCount16(uint16(of(&s.Inst[x])))
	}
	return n
}

func (l *Log) count(want func(*Entry) bool) int {
	n := 0
	for i := range int(l.Len) {
		if want(&l.E[i]) {
			n++
		}
	}
	return n
}
