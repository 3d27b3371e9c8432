package gossip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/memberlist"
)

// statements is the grow-only set, and the hashes of what was judged valid, so
// that the many copies of one statement cost one verification.
type statements struct {
	shelf *shelf[string]

	mu     sync.Mutex
	judged recent[Hash]
}

func newStatements(limit int) *statements {
	return &statements{
		shelf:  newShelf[string](limit, limit*MaxStatement),
		judged: recent[Hash]{limit: (1 + TombstonesPerLimit) * limit},
	}
}

func (s *statements) wasJudged(h Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judged.has(h)
}

func (s *statements) setJudged(h Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged.add(h)
}

// received is a statement that waits to be judged.
type received struct {
	raw  []byte
	hash Hash
	path path
}

// receive takes a statement from a delegate's buffer, without blocking.
func (p *Pool) receive(raw []byte, via path) {
	h := Hash(sha256.Sum256(raw))
	if p.statements.wasJudged(h) {
		p.metrics.duplicates.Inc()
		return
	}
	select {
	case p.inbox <- received{bytes.Clone(raw), h, via}:
	default:
		p.drop(dropQueue, nil, "statement")
	}
}

func (p *Pool) judgeStatements() {
	for {
		select {
		case r := <-p.inbox:
			if p.ctx.Err() != nil {
				return
			}
			p.judgeStatement(r)
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Pool) judgeStatement(r received) {
	if p.statements.wasJudged(r.hash) {
		p.metrics.duplicates.Inc()
		return
	}
	key, fresh, err := p.keep(r.raw, r.hash)
	switch {
	case errors.Is(err, ErrStale):
		p.count(dropStale)
	case err != nil:
		p.drop(dropInvalid, err, "statement")
	case !fresh:
		p.metrics.duplicates.Inc()
	default:
		p.metrics.receipts.WithLabelValues(r.path.String()).Inc()
		p.spread(key, r.raw)
		p.opts.OnStatement(r.raw)
	}
}

// keep validates a statement and puts it into the set.
func (p *Pool) keep(raw []byte, h Hash) (key string, fresh bool, err error) {
	if key, err = p.opts.ValidateStatement(raw); err != nil {
		return "", false, err
	}
	if key == "" || len(key) > MaxStatementKey {
		return "", false, fmt.Errorf("statement key has %d bytes, want 1 to %d", len(key), MaxStatementKey)
	}
	fresh, evicted := p.statements.shelf.add(key, raw)
	p.statements.setJudged(h)
	p.evicted(evicted)
	return key, fresh, nil
}

func (p *Pool) evicted(n int) {
	if n > 0 {
		p.metrics.dropped.WithLabelValues(string(dropEvicted)).Add(float64(n))
		p.bounded.Warn().Int("count", n).Msg("pushed out the oldest: more than the limit and nothing is forgotten")
	}
}

// spread passes a statement on at first receipt: at once to a few random
// members, and with the next gossip ticks.
func (p *Pool) spread(key string, raw []byte) {
	p.enqueue("s"+key, encodeRaw(kindStatement, pathTick, raw))
	p.relay(encodeRaw(kindStatement, pathRelay, raw))
}

// Broadcast gives a statement to the pool: straight to the known gateways and a
// few random members, then by gossip and push-pull. It does not wait for
// delivery, and OnStatement is not called here. A statement whose key is or was
// known already is left alone. It returns ErrTooLarge, ErrClosed, or the error
// of ValidateStatement, wrapped.
func (p *Pool) Broadcast(raw []byte) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if len(raw) == 0 || len(raw) > MaxStatement {
		return fmt.Errorf("broadcast statement of %d bytes: %w", len(raw), ErrTooLarge)
	}
	raw = bytes.Clone(raw)
	key, fresh, err := p.keep(raw, sha256.Sum256(raw))
	if err != nil {
		return fmt.Errorf("broadcast statement: %w", err)
	}
	if fresh {
		p.enqueue("s"+key, encodeRaw(kindStatement, pathTick, raw))
		p.direct(encodeRaw(kindStatement, pathDirect, raw), p.opts.DirectStreams)
	}
	return nil
}

// Forget removes the statements whose key matches, and returns how many they
// were. They are not taken for news when a copy comes later. Callers forget a
// handover's statements when it is settled; ValidateStatement should refuse
// them from then on.
func (p *Pool) Forget(match func(key string) bool) int { return p.statements.shelf.forget(match) }

// Statements returns the statements kept, oldest first.
func (p *Pool) Statements() [][]byte { return p.statements.shelf.all() }

// broadcast is an entry of memberlist's queue; a newer one of that name
// replaces it.
type broadcast struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = broadcast{}

// Invalidates is memberlist.Broadcast's.
func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.name == b.name
}

// Message is memberlist.Broadcast's.
func (b broadcast) Message() []byte { return b.msg }

// Finished is memberlist.Broadcast's.
func (b broadcast) Finished() {}

// Name is memberlist.NamedBroadcast's.
func (b broadcast) Name() string { return b.name }

func (p *Pool) enqueue(name string, msg []byte) {
	p.queue.QueueBroadcast(broadcast{name, msg})
	p.queue.Prune(maxQueued)
}
