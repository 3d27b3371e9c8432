package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// GossipOptions are the agent's place in its data center's pool.
type GossipOptions struct {
	// Listen and Advertise are IP:port. Without Listen the agent takes no part,
	// and statements go to the gateways directly only.
	Listen, Advertise string
	Keys              [][]byte
	// Reload reads the keys anew, so that they are rotated without a restart; nil:
	// they never change.
	Reload func() ([][]byte, error)
	// Seeds are the gateways' gossip addresses.
	Seeds []string
}

// joinGossip opens the pool. The agent cannot look signers up: of statements
// members only check the form, and the core verifies those about its own
// handovers by the roster. Blocks and certificates prove themselves.
func (a *Agent) joinGossip(ctx context.Context) (*gossip.Pool, error) {
	o := a.opts.GossipPool
	host, port, err := splitPort(o.Listen)
	if err != nil {
		return nil, err
	}
	notices := gossip.NewNotices(a.opts.Trust, func(n rpc.Notice) { a.noticed(ctx, n) })
	opts := gossip.Options{
		Pool: string(a.opts.DataCenter), Label: a.opts.Cluster + "/" + string(a.opts.DataCenter), Keys: o.Keys,
		Name: a.opts.Keeper.Self().Name, Meta: gossip.Meta{Role: gossip.RoleAgent, DataCenter: string(a.opts.DataCenter)},
		BindHost: host, BindPort: port, Seeds: o.Seeds,
		ValidateStatement: func(raw []byte) (string, error) {
			s, err := rpc.InspectStatement(raw)
			if err != nil {
				return "", err
			}
			return rpc.StatementKey(s), nil
		},
		OnStatement:      func(raw []byte) { a.overheard(ctx, raw) },
		ValidateDocument: notices.Validate, OnDocument: notices.OnDocument,
		Log: a.opts.Log, Registerer: a.opts.Registerer,
	}
	if o.Advertise != "" {
		if opts.AdvertiseHost, opts.AdvertisePort, err = splitPort(o.Advertise); err != nil {
			return nil, err
		}
	}
	pool, err := gossip.New(opts)
	notices.Attach(pool)
	return pool, err
}

// overheard hands another instance's statement to those of its service.
func (a *Agent) overheard(ctx context.Context, raw []byte) {
	s, err := rpc.InspectStatement(raw)
	if err != nil || s.Kind != signalbox.SaysDrained && s.Kind != signalbox.SaysAck && s.Kind != signalbox.SaysLeave {
		return
	}
	for _, r := range a.runners {
		if r.in.Service == s.Service {
			r.post(ctx, overheard{raw: raw})
		}
	}
}

// noticed takes a certificate, or a handover block that is to be drained, with
// what was said of it before it came.
func (a *Agent) noticed(ctx context.Context, n rpc.Notice) {
	if n.Certificate != nil {
		a.Offer(ctx, n.Certificate.Service, n.Certificate.Raw)
		return
	}
	concerned := false
	for _, r := range a.runners {
		if n.Block.Handover(r.in.Service) != nil {
			r.post(ctx, ordered{kind: wire.OrderKind_ORDER_DRAIN, decided: n.Block.Raw})
			concerned = true
		}
	}
	if p := a.pool.Load(); p != nil && concerned {
		for _, raw := range p.Statements() {
			a.overheard(ctx, raw)
		}
	}
}

func splitPort(address string) (string, int, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", address, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", address, err)
	}
	return host, n, nil
}

// leaveGossip is how long a leaving member waits until another one was told.
const leaveGossip = 500 * time.Millisecond

// runGossip keeps the agent in its pool until ctx ends.
func (a *Agent) runGossip(ctx context.Context) {
	pool, err := a.joinGossip(ctx)
	if err != nil {
		a.opts.Log.Error().Err(err).Msg("no gossip: statements go to the gateways directly only")
		return
	}
	a.pool.Store(pool)
	<-ctx.Done()
	a.pool.Store(nil)
	_ = pool.Leave(leaveGossip) // presence only
	_ = pool.Close()
}

// broadcast hands a statement to gossip, where there is any.
func (a *Agent) broadcast(raw []byte) {
	if g := a.opts.Gossip; g != nil {
		g.Broadcast(raw)
	}
	if p := a.pool.Load(); p != nil {
		_ = p.Broadcast(raw) // the direct way carries it as well
	}
}
