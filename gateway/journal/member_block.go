package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc"
)

// build makes the next block of what is pending: at most one request of each
// service, all that the log allows. Without any it makes an empty block where
// that ends a slot that was begun, or fills one; else nil.
func (m *Member) build(now time.Time) []byte {
	b := &signalbox.Block{Cluster: m.opt.Journal.trust.Cluster, Epoch: m.opt.Epoch, At: now, Proposer: uint32(m.self)}
	m.opt.Journal.View(func(l *handover.Ledger) {
		b.Index, b.Prev = l.Index()+1, l.Digest()
		gather(b, m.pending.asks, func(a *ask) bool { return len(a.raw) <= maxTogether && l.CheckAt(&a.request, now) == nil })
	})
	if len(b.Requests) == 0 && !m.fill && m.replica.View() == 1 {
		return nil
	}
	raw, err := rpc.EncodeBlock(b)
	if err == nil {
		err = m.validate(m.replica.Slot(), m.self, raw)
	}
	if err != nil {
		m.opt.Logger.Error().Err(err).Msg("no block can be made of what is pending")
		return nil
	}
	return raw
}

// validate is what this voter checks of a block before it votes for it first:
// that it follows its log, and every request against all of that log.
func (m *Member) validate(slot uint64, proposer int, value []byte) error {
	b, err := rpc.DecodeBlock(value)
	if err != nil {
		return err
	}
	j, now := m.opt.Journal, time.Now()
	switch {
	case b.Cluster != j.trust.Cluster || b.Epoch != m.opt.Epoch || b.Index != slot:
		return fmt.Errorf("%w: block %d of %s, epoch %d", signalbox.ErrUntrusted, b.Index, b.Cluster, b.Epoch)
	case int(b.Proposer) != proposer:
		return fmt.Errorf("%w: the block names voter %d as its proposer", signalbox.ErrUntrusted, b.Proposer)
	case now.Sub(b.At) > handover.MaxAhead:
		return fmt.Errorf("%w: the block's time is %s behind this voter's clock, at most %s; look at the clocks", signalbox.ErrRefused, now.Sub(b.At).Round(time.Millisecond), handover.MaxAhead)
	}
	for i := range b.Requests {
		so := signalbox.Block{Requests: b.Requests[:i]}
		if clashes(&so, &b.Requests[i]) {
			return fmt.Errorf("%w: two requests of the block name the same identity or handover", signalbox.ErrInvalid)
		}
		if have, err := known(j, &b.Requests[i]); err != nil || have != nil {
			return fmt.Errorf("%w: handover %s is decided already", signalbox.ErrConflict, b.Requests[i].Handover.ID)
		}
	}
	j.View(func(l *handover.Ledger) {
		if l.Index()+1 != b.Index || l.Digest() != b.Prev {
			err = fmt.Errorf("%w: block %d (after %s) does not follow block %d (%s)", signalbox.ErrConflict, b.Index, b.Prev, l.Index(), l.Digest())
			return
		}
		err = l.CheckBlock(b, now)
	})
	return err
}

// comeback is a member's way into the vote after a start.
type comeback struct{ told int }

// lookAround is how often the others are asked meanwhile.
const lookAround = 300 * time.Millisecond

// comeBack returns once this voter may vote: it forgot nothing, or cannot vote
// twice (Comeback), and all voters of a new cluster know as much.
func (m *Member) comeBack(ctx context.Context) error {
	j := m.opt.Journal
	c := NewComeback(j, m.opt.Epoch, len(m.opt.Voters), m.opt.Unavailable)
	for ctx.Err() == nil && !m.over() {
		if j.Begun() && (j.Index() > 0 || j.allBegun()) {
			return nil
		}
		if j.Index() == 0 && m.opt.Newest != nil && m.opt.Newest(ctx) > 0 {
			m.pauseComeback(ctx) // it comes
			continue
		}
		said := m.opt.Standings(ctx)
		fill := false
		if j.Begun() {
			if begun(said) == len(m.opt.Voters)-1 {
				if err := j.setAllBegun(); err != nil {
					return err
				}
			}
		} else {
			done, ask, err := c.Heard(said)
			if err != nil {
				return err
			}
			if fill = ask; done {
				m.opt.Logger.Info().Uint64("log_index", j.Index()).Msg("this voter may vote")
				continue
			}
			m.tellWaiting(said)
		}
		if fill {
			m.send(agreement.Outgoing{To: agreement.Everyone, Message: &agreement.Message{Kind: agreement.Request, Slot: j.Index() + 1}})
		}
		m.pauseComeback(ctx)
	}
	return nil
}

func begun(said map[string]Standing) (n int) {
	for _, s := range said {
		if s.Begun {
			n++
		}
	}
	return n
}

func (m *Member) tellWaiting(said map[string]Standing) {
	if told := 1 + len(said); told != m.told {
		m.told = told
		m.opt.Logger.Warn().Int("answered", len(said)).Int("voters", len(m.opt.Voters)).
			Msg("this voter's journal is new, empty or from a backup: it asks the other voters before it votes")
	}
}

// pauseComeback waits a little; what comes meanwhile is for those who vote.
func (m *Member) pauseComeback(ctx context.Context) {
	pause := time.NewTimer(lookAround)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			return
		case <-m.mail:
		case a := <-m.asked:
			m.pending.add(a, time.Now())
		}
	}
}
