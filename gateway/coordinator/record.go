package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// The event kinds used here.
const (
	eventInstance = api.EventInstance
	eventProxy    = api.EventProxy
)

// maxTimeline bounds a record's events.
const maxTimeline = 2000

// record is the cutover record while it is made: marks in this gateway's own
// time, of what it saw.
type record struct {
	view  api.Handover
	block *signalbox.DecidedBlock
	cert  *signalbox.Certificate
	phase handover.Phase
	// steps are the phases as they began, for words that come late.
	steps []step
	began time.Time

	holdAt, heldAt, drainAt, drainedAt, ackedAt   time.Time
	sealedAt, servingAt, releasedAt, doneAt, shut time.Time
	due                                           map[string]bool // roster identities without evidence
	undrained                                     map[string]bool
	late                                          map[string]bool
	waiting                                       awaited
	saved                                         bool
	looked                                        bool // at the words of late proxies
}

func newEvent(at time.Time, kind, service, who, detail string) api.Event {
	return api.Event{At: at, Kind: kind, Service: service, Instance: who, Detail: detail}
}

// openRecord begins the record of a decided handover; a requester began it
// before, at the request.
func (c *Coordinator) openRecord(s *service, b *signalbox.DecidedBlock, h *signalbox.Handover) {
	if _, err := c.opt.Journal.Record(h.ID); err == nil {
		return // it was closed before this gateway was started again
	}
	now := c.opt.Now()
	r := &record{
		block: b, began: now, phase: handover.PhasePrepare, due: map[string]bool{}, undrained: map[string]bool{}, late: map[string]bool{},
		view: api.Handover{
			ID: h.ID, Service: string(h.Service), From: string(h.From), To: string(h.To),
			Term: uint64(h.Term), FallbackTerm: uint64(h.Fallback), Outcome: api.OutcomeOpen, State: api.StatePreparing,
			By: h.By, Reason: h.Reason, Allowed: h.Allowed.String(), HoldBudgetMS: h.HoldBudget.Milliseconds(),
			AllowLateProxies: h.AllowLateProxies, Started: b.At, BreakGlass: glassView(h.BreakGlass, h.By), Signed: h.Mandate != nil,
		},
	}
	if d := now.Sub(b.At); d > 0 && d < time.Second { // the block's own time, when clocks agree
		r.began = now.Add(-d)
	}
	if asked, ok := c.asked(h.ID); ok {
		r.began, r.view.Started = asked, asked
	}
	if h.Superseding() {
		s.supersede(r, h)
	}
	for _, e := range h.Roster {
		r.due[string(e.Identity)], r.undrained[string(e.Identity)] = true, true
		r.view.Acks = append(r.view.Acks, api.Ack{
			Instance: e.Name, DataCenter: string(e.DataCenter), Identity: string(e.Identity), Admission: e.Admission,
		})
	}
	for _, id := range h.Incoming {
		p := api.Promotion{Identity: string(id), DataCenter: string(h.To)}
		if i := c.instanceByID(s, id); i != nil {
			p.Instance, p.Address = i.Name, i.address
		}
		r.view.Promotions = append(r.view.Promotions, p)
	}
	if h.Allowed&^signalbox.AckOnly != 0 {
		r.view.ExpectedLoss = c.expectedLoss(s, h)
	}
	s.records[b.Digest] = r
	for id, e := range s.leaves {
		if r.due[string(id)] {
			r.evidence(e, now)
		}
	}
}

// supersede names the handover that r follows while it is open, in both records. A
// failover that follows none has no fallback either.
func (s *service) supersede(r *record, h *signalbox.Handover) {
	if before, back := strings.CutSuffix(h.ID, "-back"); back {
		r.view.Supersedes = before
	}
	var old *record
	for _, other := range s.records {
		if other.view.Outcome == api.OutcomeOpen && other.block.Index < r.block.Index && (old == nil || other.block.Index > old.block.Index) {
			old = other
		}
	}
	if old == nil {
		return
	}
	r.view.Supersedes, old.view.SupersededBy = old.view.ID, h.ID
	if old.view.GivenUp == "" {
		old.view.GivenUp = h.Reason
	}
}

func (r *record) ms(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	v := sinceMS(t.Sub(r.began))
	return &v
}

// line adds to the timeline.
func (r *record) line(e api.Event) {
	if len(r.view.Events) >= maxTimeline {
		r.view.EventsDropped++
		return
	}
	r.view.Events = append(r.view.Events, e)
}

// mark keeps the earliest time: what others saw first is told here later.
func mark(t *time.Time, at time.Time) {
	if t.IsZero() || at.Before(*t) {
		*t = at
	}
}

// recordLine takes a machine's line into the record, the events and the log.
func (c *Coordinator) recordLine(s *service, e handover.Record) {
	r := s.records[e.Block]
	if r == nil {
		return
	}
	switch e.Phase {
	case handover.PhaseHold:
		mark(&r.holdAt, e.At)
	case handover.PhaseDrain:
		mark(&r.drainAt, e.At)
	case handover.PhaseSeal:
		mark(&r.sealedAt, e.At)
	case handover.PhasePromote:
		mark(&r.servingAt, e.At)
	case handover.PhaseRelease:
		mark(&r.releasedAt, e.At)
		if old := s.recordOf(r.view.Supersedes); old != nil {
			mark(&old.releasedAt, e.At) // what was parked under its name flows now
		}
	case handover.PhaseDone:
		mark(&r.doneAt, e.At)
	case handover.PhaseGiveUp:
		if r.view.GivenUp == "" {
			r.view.GivenUp = e.Detail + r.undrainedWords()
		}
	}
	r.enter(e.Phase, e.At)
	r.view.State = stateOf(e.Phase)
	line := newEvent(e.At, api.EventPhase, string(s.conf.Name), "", e.Detail)
	line.Handover, line.Phase, line.Gateway = r.view.ID, string(e.Phase), c.opt.Gateway
	line.DataCenter, line.Term = string(c.opt.DataCenter), r.view.Term
	r.line(line)
	c.opt.Events.Publish(line)
	c.opt.Logger.Info().Str("handover", r.view.ID).Str("service", string(s.conf.Name)).Str("phase", string(e.Phase)).
		Float64("ms", sinceMS(e.At.Sub(r.began))).Msg(e.Detail)
}

// step is a phase and when it began.
type step struct {
	phase handover.Phase
	at    time.Time
}

// maxSteps bounds the phases of one record: a failover may go back and forth.
const maxSteps = 64

func (r *record) enter(p handover.Phase, at time.Time) {
	if p != r.phase && len(r.steps) < maxSteps {
		r.steps = append(r.steps, step{p, at})
	}
	r.phase = p
}

// phaseAt is the phase in which something was said that is heard only now: what
// comes from another data center comes later than the next phase may begin.
func (r *record) phaseAt(at time.Time) handover.Phase {
	phase := handover.PhasePrepare
	for _, s := range r.steps {
		if !s.at.After(at) {
			phase = s.phase
		}
	}
	if n := len(r.steps); n == 0 || n == maxSteps || !at.Before(r.steps[n-1].at) {
		return r.phase
	}
	return phase
}

func stateOf(p handover.Phase) string {
	switch p {
	case handover.PhaseHold:
		return api.StateHolding
	case handover.PhaseDrain:
		return api.StateDraining
	case handover.PhaseAck, handover.PhaseSeal:
		return api.StateSealing
	case handover.PhasePromote:
		return api.StatePromoting
	case handover.PhaseRelease:
		return api.StateReleasing
	case handover.PhaseSettle:
		return api.StateSettling
	case handover.PhaseGiveUp:
		return api.StateGivingUp
	case handover.PhaseDone:
		return api.StateSettled
	}
	return api.StatePreparing
}

// recordStatement takes what an instance signed into the open records; now is
// when a gateway saw it first.
func (c *Coordinator) recordStatement(s *service, e signalbox.Evidence, now time.Time) {
	for _, r := range s.records {
		switch e.Kind {
		case signalbox.SaysDrained:
			r.drained(e, now)
		case signalbox.SaysAck, signalbox.SaysRefuse, signalbox.SaysLeave, signalbox.SaysLapse, signalbox.SaysFence, signalbox.SaysAttest:
			r.evidence(e, now)
		case signalbox.SaysServing:
			for i := range r.view.Promotions {
				p := &r.view.Promotions[i]
				if p.Identity == string(e.Identity) && p.ServingMS == nil && uint64(e.Term) == r.view.Term {
					p.ServingMS, p.Address = r.ms(now), e.Address
				}
			}
		}
	}
	kind := map[signalbox.StatementKind]string{
		signalbox.SaysDrained: api.EventDrained, signalbox.SaysAck: api.EventEvidence, signalbox.SaysRefuse: api.EventEvidence,
		signalbox.SaysLeave: api.EventEvidence, signalbox.SaysServing: api.EventServing,
		signalbox.SaysLapse: api.EventEvidence, signalbox.SaysFence: api.EventEvidence, signalbox.SaysAttest: api.EventEvidence,
	}[e.Kind]
	name := string(e.Identity)
	if i := s.instances[e.Identity]; i != nil {
		name = i.Name
	}
	c.eventAt(now, s, kind, name, fmt.Sprintf("%s: %s, term %d%s", name, e.Kind, e.Term, byWhom(e.Witness)))
}

// byWhom says who signed in an instance's place, on what ground.
func byWhom(w *signalbox.Witness) string {
	switch {
	case w == nil:
		return ""
	case w.Reason != "":
		return fmt.Sprintf(" by operator %s: %q", strings.Join(w.By, ", "), w.Reason)
	case w.Plugin != "":
		return fmt.Sprintf(" by gateways %s with plugin %s (SHA-256 of its output %x)", strings.Join(w.By, ", "), w.Plugin, w.Output[:])
	}
	return " by voters " + strings.Join(w.By, ", ")
}

// undrainedWords names who had not drained, when the handover is given up.
func (r *record) undrainedWords() string {
	var names []string
	for _, a := range r.view.Acks {
		if r.undrained[a.Identity] && !r.drainAt.IsZero() {
			names = append(names, a.Instance)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; not drained: " + strings.Join(names, ", ")
}

func (r *record) drained(e signalbox.Evidence, now time.Time) {
	if uint64(e.Term) != r.view.Term {
		return
	}
	for i := range r.view.Acks {
		if a := &r.view.Acks[i]; a.Identity == string(e.Identity) && a.DrainedMS == nil {
			a.DrainedMS = r.ms(now)
		}
	}
	mark(&r.drainAt, now)
	delete(r.undrained, string(e.Identity))
	if len(r.undrained) == 0 {
		mark(&r.drainedAt, now)
	}
}

func (r *record) evidence(e signalbox.Evidence, now time.Time) {
	for i := range r.view.Acks {
		a := &r.view.Acks[i]
		counts := uint64(e.Term) == r.view.Term || e.Kind == signalbox.SaysLeave && e.Admission == a.Admission && uint64(e.Term) < r.view.Term
		if a.Identity != string(e.Identity) || a.Evidence != "" || !counts {
			continue
		}
		a.Evidence, a.AckedMS, a.Position = e.Kind.String(), r.ms(now), e.Position.String()
		a.Witness = strings.TrimPrefix(byWhom(e.Witness), " ")
		delete(r.due, a.Identity)
		delete(r.undrained, a.Identity)
		if len(r.undrained) == 0 {
			mark(&r.drainedAt, now)
		}
		if len(r.due) == 0 {
			mark(&r.ackedAt, now)
		}
	}
}

// watchRecords closes the records of handovers that are over.
func (c *Coordinator) watchRecords(s *service) {
	for digest, r := range s.records {
		cert := s.machine.Certificate()
		if cert != nil && cert.Block.Digest == digest && r.view.Certificate == nil {
			r.certified(cert)
		}
		if r.saved || s.machine.Runs(digest) || r.phase == handover.PhasePrepare && cert == nil {
			continue
		}
		if by := s.recordOf(r.view.SupersededBy); by != nil && by.releasedAt.IsZero() && s.machine.Runs(by.block.Digest) {
			continue // what it parked is still held
		}
		c.closeRecord(s, r)
		delete(s.records, digest)
		c.dropSettled(s)
	}
}

// recordOf returns the open record of a handover, or nil.
func (s *service) recordOf(id string) *record {
	for _, r := range s.records {
		if r.view.ID == id {
			return r
		}
	}
	return nil
}

// settled takes the certificate that an outcome in the log stands for: a
// gateway that was away knows newer ones only.
func (c *Coordinator) settled(s *service, o *signalbox.Outcome) {
	r := s.records[o.Block]
	if r == nil || r.view.Certificate != nil {
		return
	}
	cert, err := rpc.BuildCertificate(c.opt.Trust, r.block, o.Service, o.Certified, o.Evidence)
	if err != nil {
		c.opt.Logger.Warn().Err(err).Str("handover", r.view.ID).Msg("the record lacks its certificate")
		return
	}
	r.certified(cert)
}

func (r *record) certified(cert *signalbox.Certificate) {
	r.cert = cert
	r.view.CertifiedTerm = uint64(cert.Term)
	r.view.Certificate = &api.Certificate{
		Service: string(cert.Service), Term: uint64(cert.Term), Master: string(cert.DataCenter()), Fallback: cert.IsFallback(),
		Block: fmt.Sprintf("%x", cert.Block.Digest[:]), Evidence: len(cert.Evidence), Raw: cert.Raw,
	}
	if document, err := rpc.EncodeCertificateJSON(cert); err == nil {
		r.view.Certificate.Document = document
	}
	var sealed wire.QuorumEnvelope
	if err := proto.Unmarshal(cert.Block.Raw, &sealed); err == nil {
		r.view.Certificate.Scheme = sealed.GetScheme()
	}
}

// fromCertificate takes from the certificate the evidence that was not heard here
// by itself: whoever sealed had it.
func (r *record) fromCertificate(now time.Time) {
	if r.cert == nil {
		return
	}
	for _, e := range r.cert.Evidence {
		r.evidence(e, first(r.sealedAt, now))
	}
}

func (c *Coordinator) closeRecord(s *service, r *record) {
	now := c.opt.Now()
	r.saved, r.shut = true, now
	r.fromCertificate(now)
	switch {
	case r.view.Certificate == nil || r.view.SupersededBy != "":
		r.view.Outcome = api.OutcomeSuperseded
	case r.view.Certificate.Fallback:
		r.view.Outcome = api.OutcomeFallback
	default:
		r.view.Outcome = api.OutcomeForward
	}
	slices.SortStableFunc(r.view.Events, func(a, b api.Event) int { return a.At.Compare(b.At) })
	v := c.recordView(s, r)
	v.Ended, v.State = &now, api.StateSettled
	if v.HoldMS != nil {
		held := time.Duration(*v.HoldMS * float64(time.Millisecond))
		if v.Outcome == api.OutcomeForward {
			s.keepHold(held)
		}
		c.opt.Metrics.handover(string(s.conf.Name), v.Outcome, held)
	}
	line := newEvent(now, api.EventOutcome, string(s.conf.Name), "", outcomeLine(&v))
	line.Handover, line.Gateway, line.Term = v.ID, c.opt.Gateway, v.CertifiedTerm
	v.Events = append(v.Events, line)
	c.opt.Events.Publish(line)
	c.opt.Logger.Info().Str("handover", v.ID).Str("service", v.Service).Str("outcome", v.Outcome).Msg(line.Detail)
	c.putRecord(s, v)
}

func outcomeLine(v *api.Handover) string {
	switch v.Outcome {
	case api.OutcomeForward:
		return fmt.Sprintf("%s is master at term %d", v.To, v.CertifiedTerm)
	case api.OutcomeFallback:
		return fmt.Sprintf("given up: %s is master on at term %d (%s)", v.From, v.CertifiedTerm, v.GivenUp)
	}
	return "superseded by " + v.SupersededBy
}
