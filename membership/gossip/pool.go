package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// Pool is one member's part of a pool. Its methods may be called concurrently.
type Pool struct {
	opts    Options
	log     zerolog.Logger
	bounded zerolog.Logger // for what others cause
	metrics *metrics

	meta    atomic.Pointer[[]byte]
	ring    *memberlist.Keyring
	keys    sync.Mutex // serialises changes of ring
	guard   *guard
	library *memberlist.Memberlist
	address string // own, as others reach it; never changes
	queue   memberlist.TransmitLimitedQueue

	presence   *presence
	events     *events
	statements *statements
	documents  *shelf[Hash]
	fetch      *fetcher
	seeds      *seeds

	inbox   chan received   // statements to judge
	bodies  chan []byte     // documents to judge
	relays  chan relay      // packets to send
	streams chan streamSend // messages to send over streams

	ctx        context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	unregister func()

	leave  sync.Mutex // Leave and Close exclude each other
	closed atomic.Bool
}

// New makes a Pool, which listens at once and joins its seeds in the
// background. It returns ErrNoKey or ErrKeySize when the keys are not fit, and
// other errors for options that are out of bounds or an address in use.
func New(opts Options) (*Pool, error) {
	opts = opts.withDefaults()
	if err := opts.check(); err != nil {
		return nil, err
	}
	p := newPool(opts)
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("start gossip pool %s: %w", opts.Pool, err)
	}
	return p, nil
}

// newPool builds everything that needs no network.
func newPool(opts Options) *Pool {
	log := opts.Log.With().Str("component", "gossip").Str("pool", opts.Pool).Logger()
	p := &Pool{
		opts: opts, log: log, bounded: boundedLog(log), metrics: newMetrics(),
		presence:   newPresence(opts.Name),
		events:     newEvents(),
		statements: newStatements(opts.MaxStatements),
		documents:  newShelf[Hash](opts.MaxDocuments, opts.DocumentBytes),
		inbox:      make(chan received, maxInbox),
		bodies:     make(chan []byte, maxBodies),
		relays:     make(chan relay, maxRelays),
		streams:    make(chan streamSend, maxStreamsOut),
		unregister: func() {},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.queue = memberlist.TransmitLimitedQueue{NumNodes: p.presence.size, RetransmitMult: retransmitMult}
	p.fetch = newFetcher(opts.FetchTimeout, p.ask)
	p.seeds = newSeeds(opts.Seeds)
	p.metrics.observe(p)
	meta := opts.Meta.encode()
	p.meta.Store(&meta)
	return p
}

func (p *Pool) start() (err error) {
	defer func() {
		if err != nil {
			p.cancel()
			if p.guard != nil {
				_ = p.guard.Shutdown()
			}
			p.unregister()
		}
	}()
	if p.ring, err = memberlist.NewKeyring(p.opts.Keys[1:], p.opts.Keys[0]); err != nil {
		return err
	}
	if p.unregister, err = p.metrics.register(p.opts.Registerer, p.opts.Pool); err != nil {
		p.unregister = func() {}
		return fmt.Errorf("register metrics: %w", err)
	}
	logger := newLibraryLog(p.log, p.count)
	inner := p.opts.Transport
	if inner == nil {
		if inner, err = listen(p.opts.BindHost, p.opts.BindPort, logger); err != nil {
			return err
		}
	}
	p.guard = newGuard(inner, p.opts.Label, p.opts.StreamTimeout, p.count)
	if p.library, err = memberlist.Create(p.libraryConfig(logger)); err != nil {
		return err
	}
	p.address = p.library.LocalNode().Address()
	p.wg.Go(p.judgeStatements)
	p.wg.Go(p.judgeDocuments)
	p.wg.Go(p.tellEvents)
	p.wg.Go(p.sendRelays)
	for range streamWorkers {
		p.wg.Go(p.sendStreams)
	}
	p.wg.Go(p.keepJoined)
	return nil
}

// count is how everything that is dropped is counted.
func (p *Pool) count(why reason) { p.metrics.dropped.WithLabelValues(string(why)).Inc() }

// drop counts what is dropped and says so, within bounds.
func (p *Pool) drop(why reason, err error, what string) {
	p.count(why)
	p.bounded.Debug().Str("reason", string(why)).Err(err).Msg("dropped " + what)
}

// Address returns the host:port that others reach this member at.
func (p *Pool) Address() string { return p.address }

// Members returns who was heard of last, this member included, by name. It is a
// hint, never evidence.
func (p *Pool) Members() []Member { return p.presence.list() }

// Update changes what this member says about itself, and waits until one other
// member was told, if there is any, at most for the timeout.
func (p *Pool) Update(meta Meta, timeout time.Duration) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if err := meta.check(); err != nil {
		return fmt.Errorf("update gossip metadata: %w", err)
	}
	b := meta.encode()
	p.meta.Store(&b)
	if err := p.library.UpdateNode(timeout); err != nil {
		return fmt.Errorf("update gossip metadata: %w", err)
	}
	return nil
}

// Leave tells the others that this member goes, and waits until one of them was
// told, at most for the timeout. The Pool still has to be closed. Leaving is
// presence only: it is no `leave` statement.
func (p *Pool) Leave(timeout time.Duration) error {
	p.leave.Lock()
	defer p.leave.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	p.seeds.stop() // or we would join again
	if err := p.library.Leave(timeout); err != nil {
		return fmt.Errorf("leave gossip pool %s: %w", p.opts.Pool, err)
	}
	return nil
}

// Close stops the Pool without telling the others. When it returns, no callback
// runs any more and all connections are closed. It may be called repeatedly,
// but not by a callback.
func (p *Pool) Close() error {
	p.leave.Lock()
	defer p.leave.Unlock()
	if p.closed.Swap(true) {
		return nil
	}
	p.cancel()
	p.fetch.close()
	err := p.library.Shutdown()
	p.wg.Wait()
	p.unregister()
	if err != nil {
		return fmt.Errorf("close gossip pool %s: %w", p.opts.Pool, err)
	}
	return nil
}

// isSelf says whether the address is our own.
func (p *Pool) isSelf(address netip.AddrPort) bool { return address.String() == p.address }
