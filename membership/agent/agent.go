package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/rpc"
)

// An Agent makes its instances obey. New makes one; Run runs it once.
type Agent struct {
	opts     Options
	voters   map[signalbox.Identity]ed25519.PublicKey
	metrics  *metrics
	runners  []*runner
	sessions []*session
	pool     atomic.Pointer[gossip.Pool]

	votersMu sync.Mutex // of the file that keeps the voters

	mu      sync.Mutex
	running context.CancelFunc
	stopped chan struct{} // closed when Run has returned
}

// New opens the instances' directories (each is locked until Close or the end
// of Run) and makes the gates of library instances, closed. It connects to
// nobody yet.
func New(opts Options) (*Agent, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("configure agent: %w", err)
	}
	a := &Agent{opts: opts, voters: map[signalbox.Identity]ed25519.PublicKey{}, stopped: make(chan struct{})}
	for _, key := range opts.VoterKeys {
		a.voters[rpc.IdentityOf(key)] = key
	}
	if opts.Quorum > len(a.voters) {
		return nil, fmt.Errorf("configure agent: %w: quorum %d of %d different voters", signalbox.ErrInvalid, opts.Quorum, len(a.voters))
	}
	if err := a.loadVoters(); err != nil {
		return nil, fmt.Errorf("configure agent: %w", err)
	}
	var err error
	if a.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, err
	}
	for _, in := range opts.Instances {
		r, err := newRunner(a, in)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("instance %s: %w", in.Name, err)
		}
		a.runners = append(a.runners, r)
	}
	for _, address := range opts.Gateways {
		s, err := newSession(a, address)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("gateway %s: %w", address, err)
		}
		a.sessions = append(a.sessions, s)
	}
	return a, nil
}

// Close releases what New took, for an Agent that is never run.
func (a *Agent) Close() {
	for _, r := range a.runners {
		r.store.close()
		r.release()
	}
	for _, s := range a.sessions {
		s.conn.Close()
	}
	a.metrics.unregister()
}

// Run runs the agent until ctx ends or Stop is done. The end of ctx alone is the
// end of the agent, not of its instances: one that serves goes on serving, and an
// agent started later takes it over. (A library instance ends with its process,
// so end it with Stop.) Run returns nil then.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	if a.running != nil {
		a.mu.Unlock()
		return errors.New("run agent: it has been run before")
	}
	a.running = cancel
	a.mu.Unlock()
	defer close(a.stopped)
	var all sync.WaitGroup
	for _, r := range a.runners {
		all.Go(func() { r.run(ctx) })
	}
	for _, s := range a.sessions {
		all.Go(func() { s.run(ctx) })
	}
	if a.opts.GossipPool.Listen != "" {
		all.Go(func() { a.runGossip(ctx) })
	}
	all.Go(func() { a.watchBundle(ctx) })
	all.Wait()
	a.metrics.unregister()
	return nil
}

// Stop is the orderly stop: known blocks are answered, the gateways take the
// instances out of the proxies, what is in flight is finished, the instances sign
// that they leave (when a quorum of voters is in reach), and Run ends. It returns
// nil when every instance was stepped down, ctx's error when that took too long:
// the instances are as they are then, and nothing more is signed. Allow for the
// longest request, 3 s for the proxies and 3 s for the voters.
func (a *Agent) Stop(ctx context.Context) error {
	a.mu.Lock()
	cancel := a.running
	a.mu.Unlock()
	if cancel == nil {
		a.Close()
		return nil
	}
	var err error
	for _, r := range a.runners {
		r.post(ctx, stopping{})
	}
	for _, r := range a.runners {
		select {
		case <-r.exited:
		case <-a.stopped:
		case <-ctx.Done():
			err = fmt.Errorf("stop instance %s: %w", r.in.Name, ctx.Err())
		}
	}
	var flushing sync.WaitGroup
	for _, s := range a.sessions {
		flushing.Go(func() { s.flush(ctx) })
	}
	flushing.Wait()
	cancel()
	<-a.stopped
	return err
}

// Guard puts the gate of the agent's one library instance in front of a handler;
// see package driver/guard for what it does. It panics when the agent has not
// exactly one library instance: which one would be a guess.
func (a *Agent) Guard(next http.Handler) http.Handler {
	var gate *guard.Gate
	for _, r := range a.runners {
		if r.gate == nil {
			continue
		}
		if gate != nil {
			panic("agent: Guard with several library instances: use Gate(name).Wrap")
		}
		gate = r.gate
	}
	if gate == nil {
		panic("agent: Guard without a library instance")
	}
	return gate.Wrap(next)
}

// Gate returns the gate of the library instance of that name, nil for none.
func (a *Agent) Gate(name string) *guard.Gate {
	for _, r := range a.runners {
		if r.in.Name == name {
			return r.gate
		}
	}
	return nil
}

// TermFrom returns the term at which Guard admitted a request: the fencing token
// for whatever the request changes. It costs no allocation.
func TermFrom(r *http.Request) signalbox.Term { return guard.TermFrom(r) }

// Offer hands a certificate to the agent that came another way than over a
// session, for example by gossip. It proves itself. It does not block for long.
func (a *Agent) Offer(ctx context.Context, service signalbox.Service, certificate []byte) {
	for _, r := range a.runners {
		if r.in.Service == service {
			r.post(ctx, granted{certificate: certificate})
		}
	}
}
