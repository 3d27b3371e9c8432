package gossip

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// maxNoticed bounds the services whose newest certified term is remembered.
// Beyond it settled notices are carried once more than needed.
const maxNoticed = 16384

// Notices are the handover blocks and certificates that a pool carries as
// documents. Only what is above the newest certified term of its service is
// taken, and what a newer certificate settles is forgotten. Safe for concurrent
// use. Attach it to its pool; before that nothing is published.
type Notices struct {
	trust rpc.Trust
	take  func(rpc.Notice)
	pool  atomic.Pointer[Pool]

	mu      sync.Mutex
	settled map[signalbox.Service]signalbox.Term
	held    map[signalbox.Service][]noticed
}

// noticed is a document that the pool keeps.
type noticed struct {
	hash Hash
	term signalbox.Term
}

// NewNotices returns the notices of one pool. take gets each that came from
// another member, once; it must not block for long.
func NewNotices(trust rpc.Trust, take func(rpc.Notice)) *Notices {
	return &Notices{
		trust: trust, take: take,
		settled: map[signalbox.Service]signalbox.Term{}, held: map[signalbox.Service][]noticed{},
	}
}

// Attach has the notices published in a pool that was made with Validate and
// OnDocument; nil detaches.
func (n *Notices) Attach(p *Pool) { n.pool.Store(p) }

// Validate is for Options.ValidateDocument.
func (n *Notices) Validate(raw []byte) error {
	notice, err := rpc.OpenNotice(n.trust, raw)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for service, term := range notice.Terms() {
		if term > n.settled[service] {
			return nil
		}
	}
	return ErrStale
}

// OnDocument is for Options.OnDocument.
func (n *Notices) OnDocument(h Hash, raw []byte) {
	notice, err := rpc.OpenNotice(n.trust, raw)
	if err != nil {
		return // it was valid a moment ago
	}
	n.note(h, notice)
	n.take(notice)
}

// Publish hands a block or a certificate that was verified to the pool. What is
// settled, or too large for gossip, is left alone: the direct ways carry it.
func (n *Notices) Publish(notice rpc.Notice) {
	p := n.pool.Load()
	if p == nil {
		return
	}
	if h, err := p.Publish(notice.Seal()); err == nil {
		n.note(h, notice)
	}
}

// note remembers a document that the pool keeps, and has it forget those that a
// certificate settles.
func (n *Notices) note(h Hash, notice rpc.Notice) {
	var over []Hash
	n.mu.Lock()
	for service, term := range notice.Terms() {
		if notice.Certificate != nil {
			over = append(over, n.settle(service, term)...)
		}
		if kept := (noticed{h, term}); len(n.held) < maxNoticed && !slices.Contains(n.held[service], kept) {
			n.held[service] = append(n.held[service], kept)
		}
	}
	n.mu.Unlock()
	if p := n.pool.Load(); p != nil && len(over) > 0 {
		p.ForgetDocuments(func(h Hash) bool { return slices.Contains(over, h) })
	}
}

// settle returns the documents of a service that a certified term makes moot.
// n.mu is held.
func (n *Notices) settle(service signalbox.Service, term signalbox.Term) (over []Hash) {
	if len(n.settled) < maxNoticed || n.settled[service] != 0 {
		n.settled[service] = max(n.settled[service], term)
	}
	n.held[service] = slices.DeleteFunc(n.held[service], func(kept noticed) bool {
		if kept.term <= term {
			over = append(over, kept.hash)
		}
		return kept.term <= term
	})
	return over
}
