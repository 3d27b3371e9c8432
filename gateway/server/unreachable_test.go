package server

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// streams counts how often each gateway's stream to each other one began.
type streams struct {
	mu    sync.Mutex
	began map[[2]string]int
}

type streamsHandler struct {
	session.Handler
	streams *streams
	self    string
}

func (h streamsHandler) PeerUp(peer string) []*wire.PeerFrame {
	frames := h.Handler.PeerUp(peer)
	h.streams.mu.Lock()
	defer h.streams.mu.Unlock()
	h.streams.began[[2]string{h.self, peer}]++
	return frames
}

func (c *streams) wrap(self string, inner session.Handler) session.Handler {
	return streamsHandler{inner, c, self}
}

// of are the counts of all streams from and to a gateway.
func (c *streams) of(name string) map[[2]string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[[2]string]int{}
	for _, other := range gatewayNames {
		if other != name {
			from, to := [2]string{name, other}, [2]string{other, name}
			out[from], out[to] = c.began[from], c.began[to]
		}
	}
	return out
}

// restart starts a gateway again and waits for all streams from and to it.
func (c *streams) restart(s *site, name string) {
	s.t.Helper()
	before := c.of(name)
	s.gateways[name].stop()
	s.startGateway(name)
	eventually(s.t, "all streams of "+name, func() bool {
		for stream, n := range c.of(name) {
			if n == before[stream] {
				return false
			}
		}
		return true
	})
}

// TestUnreachableLeader: a leader whose streams have ended is not waited for as long
// as a view may take. Here that is longer than this test waits for anything, and the
// time for a leader that cannot be reached is short: only the streams can have ended
// the view.
func TestUnreachableLeader(t *testing.T) {
	t.Parallel()
	c := &streams{began: map[[2]string]int{}}
	s := newSite(t, voting(three...), func(s *site) { s.wrap = c.wrap }).run()
	s.viewTimeout, s.unreachableTimeout = patience+time.Minute, 100*time.Millisecond
	for _, name := range three {
		c.restart(s, name)
	}
	for _, name := range three {
		eventually(t, name+" to have something decided", func() bool { return s.propose(name, "before-"+name) == nil })
	}
	s.sameLog()
	dead := s.leader(three[0])
	asks := three[0]
	if dead == asks {
		asks = three[1]
	}
	s.gateways[dead].stop()
	eventually(t, "a decision without the leader", func() bool { return s.propose(asks, "after") == nil })
	j := s.gateways[asks].journal
	b, err := j.Block(j.Index())
	must(t, err)
	var m wire.QuorumEnvelope
	must(t, proto.Unmarshal(b.Raw, &m))
	if by := s.cluster.Voters[b.Proposer].Name; m.View < 2 || by == dead {
		t.Errorf("block %d was decided in view %d, built by %s: %s is dead", b.Index, m.View, by, dead)
	}
	s.startGateway(dead)
	s.sameLog()
}
