package lease

import "time"

var simPromise = Promise{Below: simTerm + 1, UpTo: 20}

func (w *sim) start(v *simVoter) {
	v.run++
	v.grantor = newGrantor(w.rules, v.epoch, v.disk, v.clock.at(w.now))
	v.grantor.Decided(v.decided)
	if w.hasty && v.epoch == 2 {
		v.grantor.start -= time.Hour
	}
}

// crashes has a voter crash now and then; what is not on disk is lost.
func (w *sim) crashes(v *simVoter) {
	w.after(w.upTo(15*time.Second), func() {
		v.grantor = nil
		w.after(w.upTo(time.Second), func() {
			w.start(v)
			w.crashes(v)
		})
	})
}

// inRun does something later, unless the voter has crashed by then.
func (w *sim) inRun(v *simVoter, d time.Duration, do func()) {
	run := v.run
	w.after(d, func() {
		if v.run == run && v.grantor != nil {
			do()
		}
	})
}

// keep writes a change and goes on when it is on disk.
func (w *sim) keep(v *simVoter, c *Change, then func()) {
	if c == nil {
		then()
		return
	}
	disk := w.upTo(100 * time.Millisecond)
	if w.slowDisk {
		disk = 3*time.Second + w.upTo(9*time.Second)
	}
	w.inRun(v, disk, func() {
		v.disk.Apply(*c)
		v.grantor.Kept(*c)
		then()
	})
}

// collect asks voters for their shares until they have signed.
func (w *sim) collect(voters []*simVoter) {
	for _, v := range voters {
		w.after(w.upTo(500*time.Millisecond), func() { w.lapseAsked(v) })
	}
}

func (w *sim) lapseAsked(v *simVoter) {
	if v.liar {
		w.shares[v] = true
		return
	}
	if w.shares[v] {
		return
	}
	w.after(w.upTo(200*time.Millisecond), func() { w.lapseAsked(v) }) // again: it may crash
	if v.grantor == nil {
		return
	}
	c, err := v.grantor.Promise(Of{simService, simSelf}, simPromise)
	if err != nil {
		panic(err)
	}
	sign := func() {
		ready, _ := v.grantor.Lapsed(Of{simService, simSelf}, simPromise, w.lapse, v.clock.at(w.now))
		if ready {
			w.shares[v] = true
		}
	}
	if !w.rules.promiseDurable { // the share does not wait for the disk
		sign()
	}
	w.keep(v, c, sign)
}

// changeVoters has the old ones stop, decides with a quorum of them, starts the
// new ones and collects from those. An aborted change is tried again, in the next
// slot.
func (w *sim) changeVoters() {
	for _, v := range w.voters {
		w.stop(v)
	}
	if w.aborted && w.slot == 1 {
		w.after(w.upTo(2*time.Second), w.abort)
	}
}

// abort decides the slot without the change: whoever hears of it grants again.
func (w *sim) abort() {
	w.slot = 2
	for _, v := range w.voters {
		v.stopped = v.liar
		w.after(w.upTo(time.Second), func() {
			v.decided = max(v.decided, 1)
			if v.grantor != nil {
				v.grantor.Decided(v.decided)
			}
		})
	}
	w.after(w.upTo(6*time.Second), w.changeVoters)
}

func (w *sim) stop(v *simVoter) {
	slot := w.slot
	if w.decided {
		return
	}
	if v.liar {
		w.vote(v, slot)
		return
	}
	if v.grantor != nil && !v.stopped {
		w.keep(v, v.grantor.Stop(slot), func() { w.vote(v, slot) })
	}
	if !v.stopped {
		w.after(500*time.Millisecond, func() { w.stop(v) })
	}
}

func (w *sim) vote(v *simVoter, slot uint64) {
	if slot != w.slot {
		return
	}
	v.stopped = true
	votes := 0
	for _, o := range w.voters {
		if o.stopped {
			votes++
		}
	}
	if votes < w.n-w.u || w.decided || w.aborted && slot == 1 {
		return
	}
	w.decided = true
	if w.learns {
		w.after(w.upTo(time.Second), w.learn)
	}
	for _, o := range w.next {
		w.after(w.upTo(200*time.Millisecond), func() {
			if !w.ignorant {
				o.disk.Longest = max(o.disk.Longest, w.ttl.LapseWait()) // from the log
			}
			o.epoch, o.decided = 2, slot
			w.start(o)
		})
	}
	w.after(250*time.Millisecond, func() { w.collect(w.next) })
}
