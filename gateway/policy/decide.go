package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// DefaultApprovalWait is how long an order waits for approval where the
// configuration does not say.
const DefaultApprovalWait = time.Hour

// Rules are a service's safety rules; the zero value has none.
type Rules struct {
	// MinStanding is how many instances must stand ready on the new side.
	MinStanding int
	// MinInterval lies between two moves. One way back is allowed within it.
	MinInterval time.Duration
	// Approvals is how many people other than the one who asks have to approve.
	Approvals int
	// ApprovalWait is how long an order waits for them; 0: DefaultApprovalWait.
	ApprovalWait time.Duration
	Freezes      []Freeze
}

// A Move is a handover that somebody wants to begin.
type Move struct {
	ID       string
	Service  signalbox.Service
	From, To signalbox.DataCenter
	// Term is what is certified now.
	Term signalbox.Term
	By   string
	// Standing is how many instances stand on the new side; less than 0 when that
	// is not known here.
	Standing int
	// Unplanned: it allows evidence for instances that do not answer.
	Unplanned bool
	// Handover is the block to be, where it is known; an approved order has to
	// describe exactly this one.
	Handover *signalbox.Handover
}

// A Finding is what one rule says about a move.
type Finding struct {
	Rule   signalbox.SafetyRule
	Blocks bool
	Detail string
	// Do says what to do when it blocks.
	Do string
	// Until is when it blocks no longer by itself; zero when that is not known.
	Until time.Time
}

// Decide says what every rule that is configured, or in force, says about a move
// at a time, in the order of signalbox.SafetyRules.
func Decide(r Rules, s *State, m Move, at time.Time) []Finding {
	if s == nil {
		s = &State{}
	}
	var out []Finding
	for _, find := range []func(Rules, *State, Move, time.Time) *Finding{pause, freeze, interval, approvals, standing} {
		if f := find(r, s, m, at); f != nil {
			out = append(out, *f)
		}
	}
	return out
}

// Blocking returns the rules that block.
func Blocking(findings []Finding) (out []signalbox.SafetyRule) {
	for _, f := range findings {
		if f.Blocks {
			out = append(out, f.Rule)
		}
	}
	return out
}

func pause(_ Rules, s *State, _ Move, at time.Time) *Finding {
	if !s.Pause.Holds(at) {
		return nil
	}
	p := s.Pause
	return &Finding{
		Rule: signalbox.RulePause, Blocks: true, Until: p.Until,
		Detail: fmt.Sprintf("%s paused %s until %s: %s", p.By, p.Service, moment(p.Until, at), p.Reason),
		Do:     fmt.Sprintf("ask %s; signalbox service resume %s ends it", p.By, p.Service),
	}
}

func freeze(r Rules, _ *State, m Move, at time.Time) *Finding {
	if len(r.Freezes) == 0 {
		return nil
	}
	out := &Finding{Rule: signalbox.RuleFreeze}
	var next time.Time
	for i := range r.Freezes {
		f := &r.Freezes[i]
		until, active := f.Active(at)
		if !active {
			if n := f.Next(at); !n.IsZero() && (next.IsZero() || n.Before(next)) {
				next = n
				out.Detail = fmt.Sprintf("not frozen; the next window (%s) opens %s", f.Name, moment(n, at))
			}
			continue
		}
		end := "without an end within two weeks"
		if !until.IsZero() {
			end = "until " + moment(until, at)
		}
		detail := fmt.Sprintf("frozen (%s) %s", f.Name, end)
		if m.Unplanned {
			return &Finding{Rule: signalbox.RuleFreeze, Detail: detail + "; a failover goes on all the same"}
		}
		return &Finding{Rule: signalbox.RuleFreeze, Blocks: true, Until: until, Detail: detail, Do: "wait for the window's end"}
	}
	if out.Detail == "" {
		out.Detail = "not frozen, and no window is to come"
	}
	return out
}

func interval(r Rules, s *State, m Move, at time.Time) *Finding {
	if r.MinInterval <= 0 {
		return nil
	}
	out := &Finding{Rule: signalbox.RuleMinInterval, Detail: fmt.Sprintf("%s have to lie between two moves; there was none", r.MinInterval)}
	last := s.Moved
	if last == nil {
		return out
	}
	out.Detail = fmt.Sprintf("%s have to lie between two moves; %s moved it from %s to %s at %s", r.MinInterval, last.By, last.From, last.To, last.At.UTC().Format(time.RFC3339))
	until := last.At.Add(r.MinInterval)
	switch {
	case !at.Before(until):
	case m.To == last.From && !last.Back:
		out.Detail += "; the way back is allowed once"
	default:
		out.Blocks, out.Until = true, until
		out.Do = "wait until " + moment(until, at)
	}
	return out
}

func approvals(r Rules, s *State, m Move, at time.Time) *Finding {
	if r.Approvals <= 0 {
		return nil
	}
	out := &Finding{Rule: signalbox.RuleApprovals, Blocks: true}
	people := plural(r.Approvals, "other person has", "other people have")
	w := s.Order(m.ID)
	switch {
	case m.ID == "":
		out.Detail = people + " to approve each order"
		out.Do = "give the order: it then waits for approval"
		return out
	case w == nil:
		out.Detail = people + " to approve, and nobody was asked yet"
		out.Do = "give the order: it then waits for approval"
		return out
	case !w.Holds(m.Term, at):
		out.Detail = people + " to approve; this order ran out, or the service has moved since"
		out.Do = "give the order anew"
		return out
	case w.By != m.By || m.Handover != nil && !w.Order.Matches(m.Handover):
		out.Detail = fmt.Sprintf("%s to approve, and what %s asked for under this id was another order", people, w.By)
		out.Do = "give the order anew"
		return out
	}
	var who []string
	for _, a := range w.Approved {
		who = append(who, a.By)
	}
	out.Blocks = len(who) < r.Approvals
	out.Detail = fmt.Sprintf("%s to approve", people)
	if len(who) > 0 {
		out.Detail += "; approved by " + strings.Join(who, ", ")
	}
	if out.Blocks {
		out.Until = time.Time{}
		out.Detail += fmt.Sprintf("; waits until %s", moment(w.Order.Until, at))
		out.Do = fmt.Sprintf("another operator than %s: signalbox cutover approve %s", w.By, w.ID)
	}
	return out
}

func standing(r Rules, _ *State, m Move, _ time.Time) *Finding {
	if r.MinStanding <= 0 || m.Standing < 0 {
		return nil
	}
	return &Finding{
		Rule: signalbox.RuleMinStanding, Blocks: m.Standing < r.MinStanding,
		Detail: fmt.Sprintf("%s ready in %s, and there have to be %d", plural(m.Standing, "instance stands", "instances stand"), m.To, r.MinStanding),
		Do:     "start more of its instances there, or make them ready",
	}
}

// CheckMove returns an error that wraps ErrRefused when a rule blocks a handover
// that begins and break-glass does not override it. term is what is certified,
// open whether a handover is open, which this one would supersede. Handovers that
// take over a running service, or end an open one, are not held up.
func CheckMove(r Rules, s *State, h *signalbox.Handover, term signalbox.Term, open bool, at time.Time) error {
	if err := h.BreakGlass.Check(); err != nil {
		return err
	}
	if h.From == "" || open {
		if h.BreakGlass != nil {
			return fmt.Errorf("%w: no rule stands before an adoption or a way back: there is no glass to break", signalbox.ErrInvalid)
		}
		return nil
	}
	return Refuse(Decide(r, s, MoveOf(h, term), at), h.BreakGlass)
}

// MoveOf is the move that a handover block is. A singleton's block lists one
// instance however many stand: only the gateway that takes the order counts them.
func MoveOf(h *signalbox.Handover, term signalbox.Term) Move {
	m := Move{
		ID: h.ID, Service: h.Service, From: h.From, To: h.To, Term: term, By: h.By, Standing: len(h.Incoming),
		Unplanned: h.Allowed&^signalbox.AckOnly != 0, Handover: h,
	}
	if h.Singleton {
		m.Standing = -1
	}
	return m
}

// Refuse returns an error that wraps ErrRefused and names every rule that blocks
// and is not overridden; nil when there is none.
func Refuse(findings []Finding, glass *signalbox.BreakGlass) error {
	var words []string
	for _, f := range findings {
		if f.Blocks && (glass == nil || !slices.Contains(glass.Overrides, f.Rule)) {
			words = append(words, fmt.Sprintf("%s: %s (%s)", f.Rule, f.Detail, f.Do))
		}
	}
	if len(words) == 0 {
		return nil
	}
	return fmt.Errorf("%w %s", signalbox.ErrRefused, strings.Join(words, "; "))
}

// moment writes a time for a person who is in a hurry: when, and in how long.
func moment(t, now time.Time) string {
	left := t.Sub(now).Round(time.Second).String()
	if days := t.Sub(now) / (24 * time.Hour); days >= 2 {
		left = fmt.Sprintf("%d days", days)
	}
	return fmt.Sprintf("%s (in %s)", t.UTC().Format(time.RFC3339), left)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
