package gossip

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signalbox-io/signalbox/membership/gossip/gossiptest"
)

// bubble runs a test in virtual time. That it ends shows that Close leaves no
// goroutine behind: synctest panics when one remains. memberlist's own may run
// out their probe and queue intervals first.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(time.Minute)
	})
}

func settleMembers(t *testing.T, nodes []*node) {
	t.Helper()
	for range 600 {
		missing := 0
		for _, n := range nodes {
			if len(n.Members()) != len(nodes) {
				missing++
			}
		}
		if missing == 0 {
			synctest.Wait()
			return
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	t.Fatal("members do not know each other after a minute")
}

func only(kind gossiptest.Kind) func(gossiptest.Link) bool {
	return func(l gossiptest.Link) bool { return l.Kind != kind }
}

func (n *node) receipts(p path) float64 {
	return testutil.ToFloat64(n.metrics.receipts.WithLabelValues(p.String()))
}

func (n *node) dropped(r reason) float64 {
	return testutil.ToFloat64(n.metrics.dropped.WithLabelValues(string(r)))
}

// Guards: a statement travels three ways, and each of them is enough alone.
func TestEachWayDeliversAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		cut    func(gossiptest.Link) bool
		fanout int
		direct bool
		within time.Duration
		path   path
	}{
		{"packets only", only(gossiptest.Packet), 4, false, 50 * time.Millisecond, pathDirect},
		{"gossip tick only", only(gossiptest.Packet), -1, false, time.Second, pathTick},
		{"stream to the gateways only", only(gossiptest.Stream), -1, true, 50 * time.Millisecond, pathDirect},
		{"push-pull only", only(gossiptest.Stream), -1, false, 20 * time.Second, pathSync},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				network := gossiptest.New()
				network.Latency(func(gossiptest.Link) time.Duration { return time.Millisecond })
				// Two agents, so that a way that goes to gateways only shows.
				nodes := cluster(t, network, 3, 1, func(o *Options) {
					o.Fanout, o.DirectStreams = c.fanout, c.direct
				})
				settleMembers(t, nodes)
				network.Cut(c.cut)
				to := nodes[0]
				if c.path == pathTick { // the author sends to gateways at once
					to = nodes[2]
				}
				began := time.Now()
				if err := nodes[1].Broadcast(signed("k", "ack")); err != nil {
					t.Fatal(err)
				}
				for to.got("k") == 0 && time.Since(began) < c.within {
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				if to.got("k") != 1 {
					t.Fatalf("not delivered within %v", c.within)
				}
				if to.receipts(c.path) != 1 {
					t.Errorf("delivered, but not by %s", c.path)
				}
				closeAll(t, nodes)
			})
		})
	}
}

type spreadResult struct {
	all      []time.Duration // each member's delivery
	complete []time.Duration // per statement: the last member's
	packets  int             // of everything, probes too
}

func (r spreadResult) share(within time.Duration) float64 {
	n := 0
	for _, took := range r.all {
		if took <= within {
			n++
		}
	}
	return float64(n) / float64(len(r.all))
}

func (r spreadResult) String() string {
	q := func(d []time.Duration, f float64) time.Duration { return d[int(f*float64(len(d)-1))] }
	slices.Sort(r.all)
	slices.Sort(r.complete)
	return fmt.Sprintf("member p50 %v p90 %v p99 %v max %v; last member p50 %v p90 %v max %v; %d packets a statement",
		q(r.all, .5), q(r.all, .9), q(r.all, .99), q(r.all, 1),
		q(r.complete, .5), q(r.complete, .9), q(r.complete, 1), r.packets/len(r.complete))
}

// spreadIn measures statements in a pool of 40 with 1 ms between members. Every
// statement must reach every member exactly once, by push-pull at the latest.
func spreadIn(t *testing.T, fanout, statements int) spreadResult {
	t.Helper()
	var r spreadResult
	network := gossiptest.New()
	network.Latency(func(gossiptest.Link) time.Duration { return time.Millisecond })
	nodes := cluster(t, network, 40, 4, func(o *Options) { o.Fanout = fanout })
	settleMembers(t, nodes)
	time.Sleep(10 * time.Second) // the joins' own gossip is over
	for i := range statements {
		key, from := fmt.Sprint("k", i), nodes[i%len(nodes)]
		began, before := time.Now(), network.Sent(gossiptest.Packet)
		if err := from.Broadcast(signed(key, "ack")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r.packets += network.Sent(gossiptest.Packet) - before
		for !everybodyGot(nodes, from, key) {
			if time.Since(began) > time.Minute {
				t.Fatalf("%s did not reach everybody in a minute", key)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		last := time.Duration(0)
		for _, n := range nodes {
			if n == from {
				continue
			}
			took := n.at[key].Sub(began)
			r.all = append(r.all, took)
			last = max(last, took)
		}
		r.complete = append(r.complete, last)
	}
	time.Sleep(20 * time.Second) // whatever comes twice has come by now
	synctest.Wait()
	for _, n := range nodes {
		for key, count := range n.statements {
			if count != 1 {
				t.Errorf("%s was called back %d times for %s", n.opts.Name, count, key)
			}
		}
	}
	closeAll(t, nodes)
	return r
}

func everybodyGot(nodes []*node, but *node, key string) bool {
	for _, n := range nodes {
		if n != but && n.got(key) == 0 {
			return false
		}
	}
	return true
}

// Guards: a statement reaches all of 40 members, exactly once each, nearly all
// of them within a few network delays.
func TestStatementReachesFortyMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := spreadIn(t, 4, 40)
		t.Log(r)
		if share := r.share(10 * time.Millisecond); share < 0.95 {
			t.Errorf("only %.3f of the members had it within ten network delays", share)
		}
		if share := r.share(time.Second); share < 0.999 {
			t.Errorf("only %.4f of the members had it before push-pull", share)
		}
	})
}

// Guards: the gossip tick alone is a backstop that works, because every member
// that receives a statement takes part in it.
func TestTickAloneReachesFortyMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := spreadIn(t, -1, 20)
		t.Log(r)
		if share := r.share(time.Second); share < 0.99 {
			t.Errorf("only %.3f of the members had it before push-pull", share)
		}
	})
}

// Guards: who receives a statement first-hand passes it on at once. The author
// cannot reach the third member at all.
func TestRelayAtFirstReceipt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 3, 1, nil)
		settleMembers(t, nodes)
		a, c := netip.MustParseAddrPort(nodes[1].Address()), netip.MustParseAddrPort(nodes[2].Address())
		network.Cut(func(l gossiptest.Link) bool {
			return l.Kind == gossiptest.Stream || l.From == a && l.To == c || l.From == c && l.To == a
		})
		if err := nodes[1].Broadcast(signed("k", "ack")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if nodes[2].got("k") != 1 {
			t.Error("the member between did not pass the statement on at once")
		}
		closeAll(t, nodes)
	})
}
