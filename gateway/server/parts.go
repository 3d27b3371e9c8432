package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// leaseClock reads the clocks of leases.
func leaseClock() lease.Instant {
	return lease.Instant{Boot: driver.BootTime(), Wall: time.Duration(time.Now().UnixNano())}
}

// leased tells an instance what a voter said to its request for a lease.
func (s *Server) leased(id signalbox.Identity, reply *wire.LeaseReply) {
	s.agents.Send(id, &wire.GatewayFrame{Kind: &wire.GatewayFrame_LeaseGrant{LeaseGrant: reply}})
}

// pool is a gossip pool that opens after the coordinator was made.
type pool struct {
	Pool    atomic.Pointer[gossip.Pool]
	notices *gossip.Notices
}

// Broadcast implements coordinator.Gossip.
func (p *pool) Broadcast(raw []byte) {
	if open := p.Pool.Load(); open != nil {
		_ = open.Broadcast(raw) // the other ways carry it
	}
}

// Publish implements coordinator.Gossip.
func (p *pool) Publish(n rpc.Notice) { p.notices.Publish(n) }

func (s *Server) openPools() error {
	for i, open := range []func(*gossip.Notices) (*gossip.Pool, error){s.lanPool, s.wanPool} {
		p, err := open(s.pools[i].notices)
		if err != nil {
			return err
		}
		s.pools[i].Pool.Store(p)
		s.pools[i].notices.Attach(p)
	}
	return nil
}

// reloadKeysEvery is how often the bundle's gossip keys are looked at.
const reloadKeysEvery = time.Second

// reloadKeys gives the pools the keys of the bundle whenever they were rotated.
func (s *Server) reloadKeys(ctx context.Context) error {
	tick := time.NewTicker(reloadKeysEvery)
	defer tick.Stop()
	have := [][][]byte{s.opt.Bundle.Gossip, s.opt.Bundle.GatewayGossip}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		own, gateways, err := identity.ReadGossip(s.opt.Bundle.Dir)
		if err != nil {
			continue // half written: read again
		}
		for i, keys := range [][][]byte{own, gateways} {
			open := s.pools[i].Pool.Load()
			if open == nil || slices.EqualFunc(keys, have[i], bytes.Equal) {
				continue
			}
			if err := open.SetKeys(keys); err != nil {
				s.opt.Logger.Error().Err(err).Msg("cannot take the new gossip keys")
				continue
			}
			have[i] = keys
			s.opt.Logger.Info().Str("event", "renewed").Int("keys", len(keys)).Msg("took new gossip keys")
		}
	}
}

func (s *Server) closePools() {
	for _, p := range s.pools {
		p.notices.Attach(nil)
		if open := p.Pool.Swap(nil); open != nil {
			_ = open.Close()
		}
	}
}

func (s *Server) lanPool(n *gossip.Notices) (*gossip.Pool, error) {
	self := s.opt.Bundle.Self
	var seeds []string
	for _, g := range s.opt.Bundle.Gateways() {
		if own, _, _ := s.opt.Cluster.Gateway(g.Name); g.Name != self.Name && own.GossipLAN != "" {
			seeds = append(seeds, own.GossipLAN)
		}
	}
	return s.openPool(string(self.DataCenter), s.opt.Listen.GossipLAN, s.opt.Bundle.Gossip, seeds, n)
}

func (s *Server) wanPool(n *gossip.Notices) (*gossip.Pool, error) {
	var seeds []string
	for _, dc := range s.opt.Cluster.DataCenters {
		for _, g := range dc.Gateways {
			if g.Name != s.opt.Bundle.Self.Name && g.GossipWAN != "" {
				seeds = append(seeds, g.GossipWAN)
			}
		}
	}
	return s.openPool("gateways", s.opt.Listen.GossipWAN, s.opt.Bundle.GatewayGossip, seeds, n)
}

func (s *Server) openPool(name, listen string, keys [][]byte, seeds []string, n *gossip.Notices) (*gossip.Pool, error) {
	if listen == "" || len(keys) == 0 {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", listen, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", listen, err)
	}
	self := s.opt.Bundle.Self
	return gossip.New(gossip.Options{
		Pool: name, Label: self.Cluster + "/" + name, Keys: keys, Name: self.Name, BindHost: host, BindPort: number,
		Meta:  gossip.Meta{Role: gossip.RoleGateway, DataCenter: string(self.DataCenter), GRPCAddress: s.opt.Listen.RPC},
		Seeds: seeds, ValidateStatement: s.coordinator.ValidateStatement, OnStatement: s.coordinator.Statement,
		ValidateDocument: n.Validate, OnDocument: n.OnDocument,
		Log: s.opt.Logger.Level(max(s.opt.Logger.GetLevel(), zerolog.InfoLevel)), Registerer: s.registry,
	})
}

// catchUp lets a restored or new journal count as current once every other gateway was
// asked and none has more: with one voter, what a follower has is all there is.
func (s *Server) catchUp(ctx context.Context) error {
	wait := time.NewTicker(500 * time.Millisecond)
	defer wait.Stop()
	peers, _ := s.topology()
	told := -1 // how many had answered when it was logged last
	for s.journal.Restored() {
		newest := s.peers.Newest(ctx)
		behind := false
		for _, index := range newest {
			behind = behind || index > s.journal.Index()
		}
		if len(newest) == len(peers) && !behind {
			if err := s.journal.CaughtUp(); err != nil {
				return err
			}
			s.opt.Logger.Info().Uint64("log_index", s.journal.Index()).Msg("the journal has caught up with every other gateway")
			return nil
		}
		if len(newest) != told {
			told = len(newest)
			var missing []string
			for _, p := range peers {
				if _, ok := newest[p.Name]; !ok {
					missing = append(missing, p.Name)
				}
			}
			slices.Sort(missing)
			s.opt.Logger.Warn().Int("answered", told).Int("gateways", len(peers)).Strs("missing", missing).
				Msg("the journal is empty or was restored from a backup: nothing is decided before every other gateway has said how new its own is; start those that are missing")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
	}
	return nil
}
