package agreement

import "time"

// Deadline is when Tick has something to do; zero: nothing before the next call.
func (r *Replica) Deadline() time.Time {
	if r.deadline.IsZero() || !r.resend.IsZero() && r.resend.Before(r.deadline) {
		return r.resend
	}
	return r.deadline
}

// wait starts the view's clock when there is something to wait for.
func (r *Replica) wait() {
	if r.decided || !r.Votes() || !r.active() {
		r.deadline = time.Time{}
	} else if r.deadline.IsZero() {
		r.startClock()
	}
}

// startClock starts the view's clock.
func (r *Replica) startClock() {
	r.began = r.now
	r.deadline = r.due()
}

// due is when the view has taken too long: sooner when its leader cannot be
// reached, unless this voter has ended it already.
func (r *Replica) due() time.Time {
	due := r.began.Add(r.cfg.timeout(r.st.View))
	since, lost := r.lost[r.Leader()]
	if !lost || r.EndedView() {
		return due
	}
	if since.Before(r.began) {
		since = r.began
	}
	if soon := since.Add(r.cfg.unreachable(r.st.View)); soon.Before(due) {
		return soon
	}
	return due
}

// SetUnreachable says whether a voter can be reached, as far as this voter's
// transport knows; it may be wrong, or never called. It is a hint to the view's
// clock, which runs out sooner for a leader that cannot be reached, and nothing
// else: views may end at any time.
func (r *Replica) SetUnreachable(voter int, unreachable bool, now time.Time) {
	if _, lost := r.lost[voter]; lost == unreachable || voter == r.cfg.Self {
		return
	}
	r.now = now
	if unreachable {
		if r.lost == nil {
			r.lost = map[int]time.Time{}
		}
		r.lost[voter] = now
	} else {
		delete(r.lost, voter)
	}
	if voter == r.Leader() && !r.deadline.IsZero() && !r.EndedView() {
		r.deadline = r.due()
	}
}

// Lost says that messages may have been lost, as when a connection broke: what was
// not answered is repeated at the next Tick, instead of after a while.
func (r *Replica) Lost(now time.Time) {
	if !r.resend.IsZero() && now.Before(r.resend) {
		r.resend = now
	}
}
