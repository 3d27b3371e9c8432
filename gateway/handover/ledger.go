package handover

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Holder is an outstanding identity: it might still serve.
type Holder struct {
	signalbox.Instance
	// Admission is the log index that admitted or listed it.
	Admission uint64
	// Leased: every term that it could serve uses leases.
	Leased bool
}

// A ServiceState is what the log says about one service. Callers must not
// change it.
type ServiceState struct {
	Service signalbox.Service
	// Certificate is the newest certificate whose outcome is in the log.
	Certificate *signalbox.Certificate
	// Last is the highest term that any decided block named.
	Last signalbox.Term
	// Open holds the blocks without an outcome, oldest first.
	Open []*signalbox.DecidedBlock
	// Newest is the newest decided handover block.
	Newest *signalbox.DecidedBlock
	// Outstanding holds who might still serve.
	Outstanding map[signalbox.Identity]Holder
	// Admissions holds, for the current term, the blocks that admitted
	// identities its certificate does not list.
	Admissions map[signalbox.Identity]*signalbox.DecidedBlock
	// Announced holds the removals that others may give evidence for now.
	Announced map[signalbox.Identity]*Announcement
	// beyond is the newest handover block that allows others' evidence, doubted
	// the newest announcement about an identity, also when it is void.
	beyond  uint64
	doubted map[signalbox.Identity]uint64
	// Policy is what people said and what moved, for the safety rules.
	Policy policy.State
	// Taken holds the responsibilities that people took, oldest first.
	Taken []Taken
}

// Term returns the newest certified term in the log, 0 when there is none.
func (s *ServiceState) Term() signalbox.Term {
	if s == nil || s.Certificate == nil {
		return 0
	}
	return s.Certificate.Term
}

// Master returns the master data center by the log, "" when there is none.
func (s *ServiceState) Master() signalbox.DataCenter {
	if s == nil || s.Certificate == nil {
		return ""
	}
	return s.Certificate.DataCenter()
}

// Ledger is the state that the agreed log amounts to. Not safe for concurrent
// use.
type Ledger struct {
	trust rpc.Trust
	// enrollment verifies an enrollment against the cluster's CA. It is used by
	// Check only: what was decided was checked by a quorum.
	enrollment func([]byte) (signalbox.Instance, error)

	index     uint64
	digest    signalbox.Digest
	services  map[signalbox.Service]*ServiceState
	enrolled  map[signalbox.Identity]signalbox.Instance
	head      *signalbox.DecidedBlock // the block at index
	register  register
	snapshots snapshots
	voters    signalbox.VoterSet        // of the next block; the zero set where the trust knows no epochs
	changes   []*signalbox.DecidedBlock // the blocks that changed the voters, oldest first
	// rules are this gateway's safety rules, for CheckAt.
	rules map[signalbox.Service]policy.Rules
	// mandates verifies operators' signatures, for CheckAt.
	mandates func([]byte, time.Time) (*signalbox.Mandate, error)

	// accepted is the block that Accepts took last, outcomes the certificates
	// that it verified for it.
	accepted signalbox.Digest
	outcomes map[signalbox.Service]*signalbox.Certificate
	// proven is, of each service, the outcome that was verified last: a voter
	// looks at the same one when it is asked, when it is proposed and when it is
	// decided, and verifying the evidence of a whole roster is what takes longest.
	proven map[signalbox.Service]proven
}

// proven is a verified certificate with the outcome that it was made from.
type proven struct {
	outcome     *signalbox.Outcome
	certificate *signalbox.Certificate
}

func (p proven) of(o *signalbox.Outcome) bool {
	return p.outcome != nil && p.outcome.Block == o.Block && p.outcome.Certified == o.Certified &&
		slices.EqualFunc(p.outcome.Evidence, o.Evidence, bytes.Equal)
}

// NewLedger returns the state of an empty log. enrollment may be nil for a
// process that never votes.
func NewLedger(trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error)) *Ledger {
	l := &Ledger{
		trust: trust, enrollment: enrollment,
		services: map[signalbox.Service]*ServiceState{}, enrolled: map[signalbox.Identity]signalbox.Instance{},
		proven: map[signalbox.Service]proven{}, register: newRegister(), snapshots: snapshots{every: SnapshotBlocks},
	}
	if trust.Epochs != nil {
		l.voters = trust.Epochs.First()
	}
	return l
}

// Index returns the index of the newest block, 0 for an empty log.
func (l *Ledger) Index() uint64 { return l.index }

// Digest returns the digest of the newest block.
func (l *Ledger) Digest() signalbox.Digest { return l.digest }

// Service returns what the log says about a service, or nil when it does not
// mention it.
func (l *Ledger) Service(s signalbox.Service) *ServiceState { return l.services[s] }

// Services lists the services that the log mentions, sorted.
func (l *Ledger) Services() []signalbox.Service {
	var out []signalbox.Service
	for s := range l.services {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// Enrolled returns the instance of an identity known to the log.
func (l *Ledger) Enrolled(id signalbox.Identity) (signalbox.Instance, bool) {
	in, ok := l.enrolled[id]
	return in, ok
}

// Instances lists the enrolled instances of a service, sorted by data center
// and name.
func (l *Ledger) Instances(s signalbox.Service) []signalbox.Instance {
	var out []signalbox.Instance
	for _, in := range l.enrolled {
		if in.Service == s {
			out = append(out, in)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.DataCenter != b.DataCenter {
			return a.DataCenter < b.DataCenter
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return a.Identity < b.Identity
	})
	return out
}

// Roster computes who must give evidence before `to` can be master of a service
// that is no singleton: everybody outstanding outside it, sorted (rule 3).
func (l *Ledger) Roster(s signalbox.Service, to signalbox.DataCenter) []signalbox.RosterEntry {
	return l.roster(s, func(_ signalbox.Identity, h Holder) bool { return h.DataCenter != to })
}

func (l *Ledger) roster(s signalbox.Service, named func(signalbox.Identity, Holder) bool) []signalbox.RosterEntry {
	st := l.services[s]
	if st == nil {
		return nil
	}
	var out []signalbox.RosterEntry
	for id, h := range st.Outstanding {
		if named(id, h) {
			e, _ := st.Entry(id)
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Name != out[j].Name {
			return out[i].Name < out[j].Name
		}
		return out[i].Identity < out[j].Identity
	})
	return out
}

// Accepts returns nil when Apply will take the block: it is the next one of the
// log that this state came from. What cannot be applied must not be written.
func (l *Ledger) Accepts(b *signalbox.DecidedBlock) error {
	if b.Index != l.index+1 || b.Prev != l.digest {
		return fmt.Errorf("%w: block %d (after %s) does not follow block %d (%s)", signalbox.ErrConflict, b.Index, b.Prev, l.index, l.digest)
	}
	if l.voters.Epoch != 0 && b.Epoch != l.voters.Epoch {
		return fmt.Errorf("%w: block %d is of voter set %d, and set %d decides it", signalbox.ErrUntrusted, b.Index, b.Epoch, l.voters.Epoch)
	}
	if l.accepted == b.Digest {
		return nil
	}
	outcomes := map[signalbox.Service]*signalbox.Certificate{}
	for i := range b.Requests {
		o := b.Requests[i].Outcome
		if o == nil {
			continue
		}
		c, err := l.outcomeCertificate(o)
		if err != nil {
			return fmt.Errorf("apply block %d: %w", b.Index, err)
		}
		outcomes[o.Service] = c
	}
	l.accepted, l.outcomes = b.Digest, outcomes
	return nil
}

// Apply takes the next decided block into the state. The block's signatures
// must have been verified (rpc.OpenBlock). An error means that the log is not
// the one this state came from, and nothing was changed.
func (l *Ledger) Apply(b *signalbox.DecidedBlock) error {
	if err := l.Accepts(b); err != nil {
		return err
	}
	if err := l.applyVoters(b); err != nil {
		return fmt.Errorf("apply block %d: %w", b.Index, err)
	}
	for i := range b.Requests {
		l.apply(b, &b.Requests[i])
	}
	l.index, l.digest, l.head = b.Index, b.Digest, b
	l.takeSnapshot(b)
	return nil
}

func (l *Ledger) state(s signalbox.Service) *ServiceState {
	st := l.services[s]
	if st == nil {
		st = &ServiceState{
			Service:     s,
			Outstanding: map[signalbox.Identity]Holder{}, Admissions: map[signalbox.Identity]*signalbox.DecidedBlock{},
			Announced: map[signalbox.Identity]*Announcement{}, doubted: map[signalbox.Identity]uint64{},
		}
		l.services[s] = st
	}
	return st
}

func (l *Ledger) apply(b *signalbox.DecidedBlock, r *signalbox.Request) {
	switch {
	case r.Handover != nil:
		l.applyHandover(b, r.Handover)
	case r.Admit != nil:
		l.applyAdmission(b, r.Admit)
	case r.Outcome != nil:
		l.applyOutcome(l.outcomes[r.Outcome.Service], b.At)
	case r.Remove != nil:
		l.applyRemoval(b, r.Remove)
	case r.Snapshot != nil:
		l.applySnapshot(b, r.Snapshot)
	}
	l.applyConsent(b, r)
	l.applyRegister(b, r)
}

func (l *Ledger) applyHandover(b *signalbox.DecidedBlock, h *signalbox.Handover) {
	st := l.state(h.Service)
	st.Last = max(st.Last, h.Term, h.Fallback)
	st.Newest = b
	if h.Allowed&signalbox.ByOthers != 0 {
		st.beyond = b.Index
	}
	// The fallback may give an identity another term under the admission that a
	// removal was announced for.
	st.Announced = map[signalbox.Identity]*Announcement{}
	for _, id := range h.Incoming {
		st.hold(l.enrolled[id], b.Index, h.Leases.Used())
	}
	st.mayFallBack(h)
	if h.From != "" {
		st.Open = append(st.Open, b)
		return
	}
	if c, err := rpc.BuildCertificate(l.trust, b, h.Service, h.Term, nil); err == nil {
		st.Certificate = c
	}
}

func (l *Ledger) applyAdmission(b *signalbox.DecidedBlock, a *signalbox.Admission) {
	l.enrolled[a.Identity] = a.Instance
	st := l.state(a.Service)
	if a.Term == 0 {
		return
	}
	st.hold(a.Instance, b.Index, st.Certificate != nil && st.Certificate.Leases().Used())
	st.Admissions[a.Identity] = b
	delete(st.Announced, a.Identity)
}

// hold makes an identity outstanding by a term that uses leases or not. Until
// evidence took it out it may also serve what it could before.
func (s *ServiceState) hold(in signalbox.Instance, index uint64, leased bool) {
	if before, held := s.Outstanding[in.Identity]; held {
		leased = leased && before.Leased
	}
	s.Outstanding[in.Identity] = Holder{Instance: in, Admission: index, Leased: leased}
}

// mayFallBack notes what the block's fallback gives to whom it lists: a term
// without leases, also to one that the term it restores does not list and that
// is outstanding by another, with leases.
func (s *ServiceState) mayFallBack(h *signalbox.Handover) {
	if h.Fallback == 0 || h.FallbackLeases.Used() {
		return
	}
	for _, e := range h.Roster {
		if holder, held := s.Outstanding[e.Identity]; held && h.Lists(e.Identity, h.Fallback) {
			holder.Leased = false
			s.Outstanding[e.Identity] = holder
		}
	}
}

func (l *Ledger) applyOutcome(c *signalbox.Certificate, at time.Time) {
	st := l.state(c.Service)
	h, index := c.Handover(), c.Block.Index
	if c.IsFallback() {
		// The forward term of a voided block can never be certified. Whom a
		// newer block listed again stays outstanding by that.
		for _, id := range h.Incoming {
			if st.Outstanding[id].Admission == index {
				delete(st.Outstanding, id)
			}
		}
	} else {
		for _, e := range h.Roster {
			if st.Outstanding[e.Identity].Admission == e.Admission {
				delete(st.Outstanding, e.Identity)
			}
		}
	}
	open := stillOpen(st.Open, c)
	for _, b := range st.Open {
		if !slices.Contains(open, b) {
			l.register.ended(b.Handover(c.Service).ID, c, at)
		}
	}
	st.Open = open
	if c.Term > st.Term() {
		st.Policy.ApplyOutcome(c, st.Master())
		st.Certificate = c
		st.Admissions = map[signalbox.Identity]*signalbox.DecidedBlock{}
	}
}

// stillOpen removes the block of an outcome, and, when a superseding block was
// certified, every block that it superseded: whoever could serve by those gave
// evidence for its higher term or stands in its data center.
func stillOpen(open []*signalbox.DecidedBlock, c *signalbox.Certificate) []*signalbox.DecidedBlock {
	var out []*signalbox.DecidedBlock
	for _, b := range open {
		closed := b.Digest == c.Block.Digest || c.Handover().Superseding() && b.Index < c.Block.Index
		if !closed {
			out = append(out, b)
		}
	}
	return out
}

// outcomeCertificate rebuilds and verifies the certificate that an outcome
// says came of an open block.
func (l *Ledger) outcomeCertificate(o *signalbox.Outcome) (*signalbox.Certificate, error) {
	st := l.services[o.Service]
	if st == nil {
		return nil, fmt.Errorf("%w: service %q", signalbox.ErrUnknown, o.Service)
	}
	for _, b := range st.Open {
		if b.Digest != o.Block {
			continue
		}
		if before := l.proven[o.Service]; before.of(o) {
			return before.certificate, nil
		}
		c, err := rpc.BuildCertificate(l.trust, b, o.Service, o.Certified, o.Evidence)
		if err == nil {
			l.proven[o.Service] = proven{o, c}
		}
		return c, err
	}
	return nil, fmt.Errorf("%w: block %s of %s is not open (its outcome may be logged already)", signalbox.ErrConflict, o.Block, o.Service)
}
