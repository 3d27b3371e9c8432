package server

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/membership/agent"
	"github.com/signalbox-io/signalbox/rpc"
)

// road is the direct way from an agent to a gateway: once cut, connections stay
// and nothing passes any more, as with a switch that drops packets.
type road struct {
	net.Listener
	to  string
	cut *atomic.Bool
	all sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newRoad(t *testing.T, to string, cut *atomic.Bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &road{Listener: l, to: to, cut: cut}
	r.all.Go(r.accept)
	t.Cleanup(func() {
		_ = r.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	return l.Addr().String()
}

func (r *road) accept() {
	for {
		near, err := r.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, near, far)
		r.mu.Unlock()
		r.all.Go(func() { r.carry(near, far) })
		r.all.Go(func() { r.carry(far, near) })
	}
}

func (r *road) carry(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if r.cut.Load() {
			_, _ = io.Copy(io.Discard, from) // until it is closed
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// byRoads has an agent reach its gateways by roads.
func byRoads(s *site, dc signalbox.DataCenter, cut *atomic.Bool) func(*agent.Options) {
	return func(o *agent.Options) {
		o.Gateways = nil
		for _, g := range s.cluster.Gateways(dc) {
			o.Gateways = append(o.Gateways, newRoad(s.t, g.RPC, cut))
		}
	}
}

// runByRoads is run, where one agent of each data center has its direct way cut
// once cut is true.
func (s *site) runByRoads(cut *atomic.Bool) {
	s.t.Helper()
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	s.startAgent("e1", byRoads(s, east, cut))
	s.startAgent("e2")
	s.startAgent("w1", byRoads(s, west, cut))
	s.startAgent("w2")
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	s.adopt()
	s.awaitPools()
}

// awaitPools waits until everybody is in the pool of the data center.
func (s *site) awaitPools() {
	s.t.Helper()
	for _, g := range s.gateways {
		eventually(s.t, g.name+" to see four members", func() bool { return len(g.pools[0].Pool.Load().Members()) == 4 })
	}
}

// TestHandoverByGossip: an agent whose gateways it cannot reach any more, in the
// old data center or the new one, gets block and certificate by gossip and is
// heard by it; the handover goes on to its end (section 5).
func TestHandoverByGossip(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	s := newSite(t)
	s.runByRoads(&cut)
	o := s.order(west)
	cut.Store(true)
	s.begin("east-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if cert := s.verify(h); len(cert.Evidence) != 2 {
		t.Fatalf("certificate with %d pieces of evidence", len(cert.Evidence))
	}
	s.awaitServing(west, 2)
	eventually(t, "a gateway to have it by gossip that the instance serves", func() bool {
		for _, raw := range s.gateways["west-1"].pools[0].Pool.Load().Statements() {
			if st, err := rpc.InspectStatement(raw); err == nil && st.Kind == signalbox.SaysServing && st.Address == s.agents["w1"].in.address {
				return true
			}
		}
		return false
	})
}

// TestGiveUpByGossip: it hears of a handover that was given up as well, and the
// old data center goes on with it.
func TestGiveUpByGossip(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	s := newSite(t)
	s.runByRoads(&cut)
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	cut.Store(true)
	s.begin("west-1", o)
	eventually(t, "e1 to drain", func() bool {
		_, serves := s.agents["e1"].in.serves()
		return !serves
	})
	s.knows("east-2", o.ID)
	if _, err := s.gateways["east-2"].coordinator.GiveUp(t.Context(), o.ID, "op", "a test"); err != nil {
		t.Fatal(err)
	}
	s.wantOutcome(o.ID, api.OutcomeFallback, 3)
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 0 })
	s.awaitServing(east, 3)
}
