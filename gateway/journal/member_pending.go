package journal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc"
)

// pendingFor is how long a request that nobody here waits for is kept.
const pendingFor = 10 * time.Second

// ask is a request that waits to be decided. Requests of other gateways have
// nobody waiting here.
type ask struct {
	request signalbox.Request
	raw     []byte
	key     [32]byte
	until   time.Time
	replies []chan reply
	// ctx, at a voter that decides alone, is whoever's asked: what ended is not decided.
	ctx context.Context
	// forwarded: the leader was told at least once.
	forwarded bool
}

type reply struct {
	block *signalbox.DecidedBlock
	err   error
}

// newAsk reads a request back from its bytes, so that equal requests of two
// gateways are equal here.
func newAsk(raw []byte) (*ask, error) {
	r, err := rpc.DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	a := &ask{request: *r}
	if a.raw, err = rpc.EncodeRequest(r); err != nil {
		return nil, err
	}
	a.key = sha256.Sum256(a.raw)
	return a, nil
}

// Propose has a request decided. It is on the disks of a quorum and in this log
// when it returns. Errors are those of Ledger.CheckAt by this voter's log, and
// ErrUnavailable: it may or may not be decided.
func (m *Member) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	j := m.opt.Journal
	if err := j.mayVote(); err != nil {
		return nil, err
	}
	raw, err := rpc.EncodeRequest(&r)
	if err != nil {
		return nil, err
	}
	a, err := newAsk(raw)
	if err != nil {
		return nil, err
	}
	if b, err := known(j, &a.request); b != nil || err != nil {
		return b, err
	}
	if err := checkNow(j, &a.request, time.Now()); err != nil {
		if b := taken(j, a); b != nil {
			return b, nil
		}
		return nil, err
	}
	answer, done := make(chan reply, 1), *m.done.Load()
	a.replies, a.until = []chan reply{answer}, time.Now().Add(pendingFor)
	select {
	case m.asked <- a:
	default:
		return nil, errTooMany()
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	select {
	case got := <-answer:
		return got.block, got.err
	case <-done:
		select {
		case got := <-answer:
			return got.block, got.err
		default:
			return nil, errEnded()
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: no quorum of voters decided in time (%w); the request may still be decided", signalbox.ErrUnavailable, ctx.Err())
	}
}

// known returns the block of a handover whose id is in the log.
func known(j *Journal, r *signalbox.Request) (*signalbox.DecidedBlock, error) {
	if r.Handover == nil {
		return nil, nil
	}
	return j.decided(r.Handover)
}

// takenWithin is in how many of the newest blocks a person's order is looked for.
const takenWithin = 32

// taken returns the block that has exactly this order of a person already: the log
// refuses it a second time, and a gateway whose first voter is slow asks another one
// for the same. Who asked would be told that what was decided was refused.
func taken(j *Journal, a *ask) *signalbox.DecidedBlock {
	if r := &a.request; r.Pause == nil && r.Approval == nil && r.Voters == nil {
		return nil
	}
	newest, oldest := j.Index(), j.First()
	for index := newest; index > 0 && index >= oldest && newest-index < takenWithin; index-- {
		b, err := j.Block(index)
		if err != nil {
			return nil
		}
		for i := range b.Requests {
			if raw, err := rpc.EncodeRequest(&b.Requests[i]); err == nil && sha256.Sum256(raw) == a.key {
				return b
			}
		}
	}
	return nil
}

func checkNow(j *Journal, r *signalbox.Request, now time.Time) (err error) {
	j.View(func(l *handover.Ledger) { err = l.CheckAt(r, now) })
	return err
}

// pending are the requests that wait, oldest first. It belongs to one goroutine.
type pending struct {
	asks []*ask
	by   map[[32]byte]*ask
	seen uint64 // index up to which the log was looked at
}

func newPending() *pending { return &pending{by: map[[32]byte]*ask{}} }

func (p *pending) empty() bool { return len(p.asks) == 0 }

// add joins a request to an equal one that waits already.
func (p *pending) add(a *ask, now time.Time) {
	if have := p.by[a.key]; have != nil {
		have.replies = append(have.replies, a.replies...)
		have.until = now.Add(pendingFor)
		return
	}
	if len(p.asks) >= maxPending {
		a.reply(nil, errTooMany())
		return
	}
	p.asks, p.by[a.key] = append(p.asks, a), a
}

func (a *ask) reply(b *signalbox.DecidedBlock, err error) {
	for _, to := range a.replies {
		to <- reply{b, err}
	}
}

// takeAsked takes what else was asked for here meanwhile, so that it goes into the
// next block together.
func (m *Member) takeAsked(now time.Time) {
	for {
		select {
		case a := <-m.asked:
			m.pending.add(a, now)
		default:
			return
		}
	}
}

// settle answers what the log has meanwhile, drops what the log now forbids and
// what has waited too long.
func (p *pending) settle(j *Journal, now time.Time) {
	index := j.Index()
	grown := p.seen < index
	decided := map[[32]byte]*signalbox.DecidedBlock{}
	p.seen = max(p.seen, min(index, j.First()-1)) // what a snapshot stands for is looked up below
	for ; p.seen < index; p.seen++ {
		if p.empty() {
			continue
		}
		b, err := j.Block(p.seen + 1)
		if err != nil {
			break
		}
		for i := range b.Requests {
			if raw, err := rpc.EncodeRequest(&b.Requests[i]); err == nil {
				decided[sha256.Sum256(raw)] = b
			}
		}
	}
	var still []*ask
	for _, a := range p.asks {
		b, err := decided[a.key], error(nil)
		if b == nil && grown {
			if b, err = known(j, &a.request); b == nil && err == nil {
				if err = checkNow(j, &a.request, now); err != nil {
					if b = taken(j, a); b != nil { // decided before this voter was asked
						err = nil
					}
				}
			}
		}
		if err == nil && b == nil && now.After(a.until) {
			err = fmt.Errorf("%w: no quorum of voters decided in time; the request may still be decided", signalbox.ErrUnavailable)
		}
		if b == nil && err == nil {
			still = append(still, a)
			continue
		}
		delete(p.by, a.key)
		a.reply(b, err)
	}
	p.asks = still
}

// end answers everybody: with what the log has by now, or that it has to be asked
// again.
func (m *Member) end(done chan struct{}) {
	m.pending.settle(m.opt.Journal, time.Now())
	for _, a := range m.pending.asks {
		a.reply(nil, errEnded())
	}
	close(done)
}

func errEnded() error {
	return fmt.Errorf("%w: this gateway ends, or the voters were changed; ask again", signalbox.ErrUnavailable)
}

// takeRequest keeps what another voter wants decided; the leader proposes it,
// the others see to it that a leader does. An empty one asks for slots to be
// filled (see Comeback).
func (m *Member) takeRequest(from int, msg *agreement.Message) {
	if len(msg.Value) == 0 {
		m.fill = m.fill || msg.Slot == m.replica.Slot() && m.mayFill(from, time.Now())
		return
	}
	a, err := newAsk(msg.Value)
	if err != nil {
		m.refuse(from, err)
		return
	}
	now := time.Now()
	if b, err := known(m.opt.Journal, &a.request); b != nil || err != nil || checkNow(m.opt.Journal, &a.request, now) != nil {
		return // decided already, or not to be decided: the sender's own log tells it
	}
	a.until = now.Add(pendingFor)
	m.pending.add(a, now)
}

// forward sends what is pending to the leader and to those who follow it, r + 1
// of them with this voter: should the leader do nothing, as many end the view,
// and the others join them.
func (m *Member) forward(now time.Time) {
	here := place{m.replica.Slot(), m.replica.View()}
	all := here != m.sent || !now.Before(m.again)
	if all {
		m.sent, m.again = here, now.Add(forwardAgain)
	}
	for _, a := range m.pending.asks {
		if all || !a.forwarded {
			m.forwardOne(a)
		}
	}
}

// forwardAgain is after what time a request is forwarded again.
const forwardAgain = 500 * time.Millisecond

// forwardOne sends a request to the leader and to r + 1 who follow it: with them
// waiting too, a view in which it is not decided ends. A leader that has ended its
// own view, alone with the request, needs them as well.
func (m *Member) forwardOne(a *ask) {
	a.forwarded = true
	lying := len(m.opt.Voters) - 1 - 2*m.opt.Unavailable
	told := map[int]bool{m.self: true}
	for i := 0; i < len(m.opt.Voters) && len(told) < lying+2; i++ {
		to := m.replica.LeaderAfter(i)
		if to == m.self && i == 0 && !m.replica.EndedView() {
			return // it leads: it proposes
		}
		if !told[to] {
			told[to] = true
			m.send(agreement.Outgoing{To: to, Message: &agreement.Message{Kind: agreement.Request, Value: a.raw}})
		}
	}
}

// fills counts how often a voter asked for slots to be filled.
type fills struct {
	since time.Time
	count int
}

// A voter that comes back needs two filled slots; one that lies must not fill
// the log.
const (
	maxFills  = 4
	fillsEach = 10 * time.Minute
)

func (m *Member) mayFill(from int, now time.Time) bool {
	f := m.fills[from]
	if f == nil || now.Sub(f.since) > fillsEach {
		f = &fills{since: now}
		m.fills[from] = f
	}
	if f.count++; f.count > maxFills {
		m.opt.Refused("agreement-fill")
		return false
	}
	return true
}
