package model

// goal is something that must be reachable while all rules hold: a search that never sees it would prove nothing about it.
type goal struct {
	name    string
	reached func(r Rules, from *State, a Action, to *State) bool
}

// block finds a block for which want holds.
func block(s *State, want func(k int, e Entry) bool) bool {
	for k := 1; k < int(s.Log.Len); k++ {
		if s.Log.E[k].Kind == Handover && want(k, s.Log.E[k]) {
			return true
		}
	}
	return false
}

// superseded says whether the block at k was superseded by one that is certified.
func superseded(r Rules, s *State, k int) bool {
	return block(s, func(n int, e Entry) bool {
		open := s.Log.before(n)
		_, logged := open.outcome(k)
		return n > k && !logged && e.has(Superseding) && r.certified(s, n, false)
	})
}

func goals() []goal {
	return []goal{
		{"forward certified", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool { return !e.has(Superseding) && r.certified(s, k, false) })
		}},
		{"fallback certified", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, _ Entry) bool { return r.certified(s, k, true) })
		}},
		{"superseding block certified back to the old master", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool { return e.has(Superseding) && e.To() == East && r.certified(s, k, false) })
		}},
		{"forward and its superseding block both certified", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, _ Entry) bool { return r.certified(s, k, false) && superseded(r, s, k) })
		}},
		{"fallback and its superseding block both certified", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, _ Entry) bool { return r.certified(s, k, true) && superseded(r, s, k) })
		}},
		{"a block refused after its superseding block was certified", func(r Rules, from *State, a Action, _ *State) bool {
			return a.Op == opRefuse && superseded(r, from, a.K)
		}},
		{"serving at the fallback after acking the block", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && block(s, func(k int, e Entry) bool {
				return a.Term == e.Term+1 && e.Fallback.Has(a.X) && s.Inst[a.X].Acked.has(k)
			})
		}},
		{"serving at a superseding term after acking the superseded block", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && block(s, func(_ int, e Entry) bool {
				return e.has(Superseding) && a.Term == e.Term && s.Inst[a.X].Acked != 0
			})
		}},
		{"a late outcome logged after a newer block's", func(_ Rules, from *State, a Action, _ *State) bool {
			return a.Op == opAppend && a.Entry.Kind == Outcome && from.Log.newerClosed(int(a.Entry.Of))
		}},
		{"serving again after a restart", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && s.Inst[a.X].Asked != sinceAdoption
		}},
		{"both data centers' instances serving again after restarts at a term that is not the first", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && a.Term > 1 && s.Inst[a.X].Asked != sinceAdoption
		}},
		{"a leave counted as evidence", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool {
				for x := range ID(idents) {
					if e.Roster.Has(x) && !(s.Inst[x].SaidAck | s.Inst[x].Fenced).has(k) && r.certified(s, k, false) {
						return true
					}
				}
				return false
			})
		}},
		{"serving after a leave and another admission", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && s.Inst[a.X].Left > 0
		}},
		{"a certificate with a fence", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool {
				return e.has(AllowsMore) && r.certified(s, k, false) && (s.Inst[0].Fenced | s.Inst[1].Fenced).has(k)
			})
		}},
		{"kept closed by the voters' answer", func(r Rules, _ *State, a Action, s *State) bool {
			if a.Op != opAsk {
				return false
			}
			var buf [8]right
			for _, t := range s.Log.rights(a.X, buf[:0]) {
				if r.certified(s, t.block, t.fallback) && t.term >= s.floor(a.X) && !r.mayServe(s, a.X, t) {
					return true
				}
			}
			return false
		}},
		{"removed after a leave, and serving again", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && s.Log.removed(a.X) > 0 && !s.Log.E[s.Log.removed(a.X)].has(ByFence)
		}},
		{"removed after a fence, and serving again", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && s.Log.removed(a.X) > 0 && s.Log.E[s.Log.removed(a.X)].has(ByFence)
		}},
		{"a certificate with a lapse, of an instance that was not stopped", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool {
				for x := range ID(originals) {
					if i := &s.Inst[x]; e.Roster.Has(x) && i.Lapsed.has(k) && !(i.SaidAck | i.Fenced).has(k) && i.Asked == sinceAdoption {
						return r.certified(s, k, false)
					}
				}
				return false
			})
		}},
		{"a superseding block that allows more, certified with others' evidence", func(r Rules, _ *State, _ Action, s *State) bool {
			return block(s, func(k int, e Entry) bool {
				i := &s.Inst[2]
				return e.has(Superseding) && (i.Fenced | i.Lapsed).has(k) && !i.SaidAck.has(k) && r.certified(s, k, false)
			})
		}},
		{"serving again after a lease ran out", func(r Rules, from *State, a Action, s *State) bool {
			return a.Op == opServe && r.holdsLease(s, a.X) && s.Inst[a.X].Asked == sinceAdoption && a.Term == 1
		}},
		{"no lease although the certificate is there", func(r Rules, _ *State, a Action, s *State) bool {
			if a.Op != opExpire {
				return false
			}
			var buf [8]right
			for _, t := range s.Log.rights(a.X, buf[:0]) {
				if t.term >= s.floor(a.X) && !r.leaseGranted(s, a.X, t) {
					return true
				}
			}
			return false
		}},
		{"serving with a lease at a fallback", func(r Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && r.holdsLease(s, a.X) && block(s, func(_ int, e Entry) bool { return e.has(FallbackLeased) && a.Term == e.Term+1 })
		}},
		{"removed after a lapse, and serving again with a lease", func(r Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && s.Log.removed(a.X) > 0 && s.Inst[a.X].Lapsed != 0 && r.holdsLease(s, a.X)
		}},
		{"an announced removal that a handover block voids", func(r Rules, from *State, a Action, _ *State) bool {
			return a.Op == opAppend && a.Entry.Kind == Handover && r.announced(&from.Log, 0) > 0
		}},
		{"a restored instance serving under its new key", func(_ Rules, _ *State, a Action, _ *State) bool {
			return a.Op == opServe && a.X >= originals
		}},
		{"a third block after a superseding one", func(_ Rules, _ *State, a Action, s *State) bool {
			return a.Op == opServe && block(s, func(_ int, e Entry) bool { return a.Term == e.Term && !e.has(Superseding) && e.Term > 4 })
		}},
	}
}
