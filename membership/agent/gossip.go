package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/rpc"
)

// GossipOptions are the agent's place in its data center's pool.
type GossipOptions struct {
	// Listen and Advertise are IP:port. Without Listen the agent takes no part,
	// and statements go to the gateways directly only.
	Listen, Advertise string
	Keys              [][]byte
	// Seeds are the gateways' gossip addresses.
	Seeds []string
}

// joinGossip opens the pool; the agent passes on what others say and acts on
// none of it. It cannot look signers up: gateways verify, members of the pool
// only check the form.
func (a *Agent) joinGossip() (*gossip.Pool, error) {
	o := a.opts.GossipPool
	host, port, err := splitPort(o.Listen)
	if err != nil {
		return nil, err
	}
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
		OnStatement: func([]byte) {},
		Log:         a.opts.Log, Registerer: a.opts.Registerer,
	}
	if o.Advertise != "" {
		if opts.AdvertiseHost, opts.AdvertisePort, err = splitPort(o.Advertise); err != nil {
			return nil, err
		}
	}
	return gossip.New(opts)
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
	pool, err := a.joinGossip()
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
