package gossip

import (
	"fmt"
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
	early    int             // statements that reached all within the first 20 ms
	packets  int
}

func (r spreadResult) String() string {
	q := func(d []time.Duration, f float64) time.Duration { return d[int(f*float64(len(d)-1))] }
	slices.Sort(r.all)
	slices.Sort(r.complete)
	return fmt.Sprintf("member p50 %v p90 %v p99 %v max %v; last member p50 %v max %v; all within 20 ms: %d of %d; %d packets a statement",
		q(r.all, .5), q(r.all, .9), q(r.all, .99), q(r.all, 1), q(r.complete, .5), q(r.complete, 1),
		r.early, len(r.complete), r.packets/len(r.complete))
}

// spreadIn measures statements in a pool of 40 with 1 ms between members.
func spreadIn(t *testing.T, fanout, statements int) spreadResult {
	var r spreadResult
	network := gossiptest.New()
	network.Latency(func(gossiptest.Link) time.Duration { return time.Millisecond })
	nodes := cluster(t, network, 40, 4, func(o *Options) { o.Fanout = fanout })
	settleMembers(t, nodes)
	time.Sleep(30 * time.Second) // the joins' own gossip is over
	for i := range statements {
		key := fmt.Sprint("k", i)
		began, before := time.Now(), network.Sent(gossiptest.Packet)
		from := nodes[i%len(nodes)]
		if err := from.Broadcast(signed(key, "ack")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		r.packets += network.Sent(gossiptest.Packet) - before
		last := time.Duration(0)
		for _, n := range nodes {
			if n == from {
				continue
			}
			if n.got(key) != 1 {
				t.Fatalf("%s got %s %d times", n.opts.Name, key, n.got(key))
			}
			took := n.at[key].Sub(began)
			r.all = append(r.all, took)
			last = max(last, took)
		}
		r.complete = append(r.complete, last)
		if last <= 20*time.Millisecond {
			r.early++
		}
	}
	closeAll(t, nodes)
	return r
}

// Guards: one statement reaches all of 40 members, exactly once each, without
// push-pull being needed: re-broadcast on first receipt does that.
func TestStatementReachesFortyMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := spreadIn(t, 4, 20)
		t.Log(r)
		for _, took := range r.all {
			if took > 2*time.Second {
				t.Errorf("a member waited %v: that was push-pull, not gossip", took)
			}
		}
	})
}

// Guards: the gossip tick alone (no immediate packets but to the gateways)
// still reaches everybody.
func TestTickAloneReachesFortyMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := spreadIn(t, -1, 5)
		t.Log(r)
		for _, took := range r.all {
			if took > 5*time.Second {
				t.Errorf("a member waited %v: that was push-pull, not gossip", took)
			}
		}
	})
}
