package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/membership/gossip/gossiptest"
)

// Guards: nothing runs unencrypted, and every option is bounded.
func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Options)
		want  error
	}{
		{"no key", func(o *Options) { o.Keys = nil }, ErrNoKey},
		{"short key", func(o *Options) { o.Keys = [][]byte{make([]byte, 16)} }, ErrKeySize},
		{"short second key", func(o *Options) { o.Keys = append(o.Keys, make([]byte, 31)) }, ErrKeySize},
		{"no label", func(o *Options) { o.Label = "" }, nil},
		{"no name", func(o *Options) { o.Name = "" }, nil},
		{"no role", func(o *Options) { o.Meta.Role = 0 }, nil},
		{"no data center", func(o *Options) { o.Meta.DataCenter = "" }, nil},
		{"no validation", func(o *Options) { o.ValidateStatement = nil }, nil},
		{"half of documents", func(o *Options) { o.OnDocument = func(Hash, []byte) {} }, nil},
		{"too many statements", func(o *Options) { o.MaxStatements = MaxStatements + 1 }, nil},
		{"too few bytes", func(o *Options) { o.DocumentBytes = 1 }, nil},
		{"fanout", func(o *Options) { o.Fanout = MaxFanout + 1 }, nil},
		{"duration", func(o *Options) { o.ProbeTimeout = -1 }, nil},
	} {
		opts := options("n", RoleAgent)
		opts.ValidateStatement, opts.OnStatement = verify, func([]byte) {}
		c.spoil(&opts)
		p, err := New(opts)
		if err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", c.name)
		}
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Guards: who has another key or another label does not get in.
func TestStrangersCannotJoin(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"key":   func(o *Options) { o.Keys = [][]byte{testKey(2)} },
		"label": func(o *Options) { o.Label = "signalbox/test/west" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				network := gossiptest.New()
				member := cluster(t, network, 1, 1, nil)[0]
				opts := options("stranger", RoleAgent)
				opts.Transport = network.Host()
				spoil(&opts)
				stranger := start(t, opts)
				if err := stranger.Join([]string{member.Address()}); err == nil {
					t.Error("joined")
				}
				if err := stranger.Broadcast(signed("k", "")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if len(member.Members()) != 1 || len(stranger.Members()) != 1 || member.got("k") != 0 {
					t.Error("they hear each other")
				}
				if member.dropped(dropDecrypt)+member.dropped(dropLabel) == 0 {
					t.Error("the attempt is not counted")
				}
				closeAll(t, []*node{member, stranger})
			})
		})
	}
}

// Guards: seeds that are not there yet are joined when they come, and a pool
// that fell apart comes together again, without anybody asking.
func TestSeedsAreJoinedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		seed := netip.MustParseAddrPort("10.9.9.9:7946")
		early := options("early", RoleAgent)
		early.Transport, early.Seeds = network.Host(), []string{seed.String()}
		nodes := []*node{start(t, early)}
		if err := nodes[0].Join([]string{"10.9.9.8:7946"}); err == nil {
			t.Error("joined nobody without an error")
		}
		time.Sleep(time.Minute)
		late := options("late", RoleGateway)
		late.Transport = network.HostAt(seed)
		nodes = append(nodes, start(t, late))
		time.Sleep(20 * time.Second)
		if len(nodes[0].Members()) != 2 {
			t.Fatal("the late seed was not joined")
		}
		network.Cut(func(gossiptest.Link) bool { return true })
		time.Sleep(5 * time.Minute) // long enough for memberlist to drop the dead
		if len(nodes[0].Members()) != 1 {
			t.Fatal("the cut was not noticed")
		}
		network.Cut(nil)
		time.Sleep(time.Minute)
		if len(nodes[0].Members()) != 2 || len(nodes[1].Members()) != 2 {
			t.Error("the pool did not come together again")
		}
		closeAll(t, nodes)
	})
}

// Guards: a member that was killed comes back under its name, at the same
// address or another one, and gets what was said meanwhile.
func TestKilledMemberComesBack(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprint("same address: ", same), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				network := gossiptest.New()
				nodes := cluster(t, network, 3, 2, nil)
				settleMembers(t, nodes)
				address := netip.MustParseAddrPort(nodes[2].Address())
				closeAll(t, nodes[2:])
				if err := nodes[0].Broadcast(signed("meanwhile", "")); err != nil {
					t.Fatal(err)
				}
				opts := options("n02", RoleAgent)
				opts.Transport, opts.Seeds = network.Host(), []string{nodes[0].Address()}
				if same {
					opts.Transport = network.HostAt(address)
				}
				nodes[2] = start(t, opts)
				time.Sleep(time.Second)
				synctest.Wait()
				if nodes[2].got("meanwhile") != 1 {
					t.Error("did not get what was said while it was away")
				}
				time.Sleep(25 * time.Second) // found dead, and push-pull
				synctest.Wait()
				for _, n := range nodes {
					if !n.presence.hasAddress(nodes[2].Address()) || len(n.Members()) != 3 {
						t.Errorf("%s does not know where the member is now", n.opts.Name)
					}
				}
				closeAll(t, nodes)
			})
		})
	}
}

// Guards: events tell of joins, updates and leaves; Leave ends the joining.
func TestEventsAndLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 2, 1, nil)
		settleMembers(t, nodes)
		meta := nodes[1].opts.Meta
		meta.GRPCAddress = "127.0.0.1:2"
		if err := nodes[1].Update(meta, time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := nodes[1].Leave(time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []string
		for _, e := range nodes[0].events {
			if e.Member.Name == "n01" {
				got = append(got, fmt.Sprint(e.Kind, " ", e.Member.GRPCAddress, " ", e.Member.Role))
			}
		}
		want := "[join 127.0.0.1:1 agent update 127.0.0.1:2 agent leave 127.0.0.1:2 agent]"
		if fmt.Sprint(got) != want {
			t.Errorf("events %v, want %v", got, want)
		}
		closeAll(t, nodes)
	})
}

// Guards: events that a slow receiver did not take are merged to the newest of
// each member, and bounded.
func TestEventsAreMerged(t *testing.T) {
	e := newEvents()
	event := func(kind EventKind, name string) Event { return Event{kind, Member{Name: name}} }
	for _, ev := range []Event{event(EventJoin, "a"), event(EventJoin, "b"), event(EventUpdate, "a"), event(EventLeave, "b")} {
		e.put(ev)
	}
	a, _ := e.take()
	b, _ := e.take()
	if _, more := e.take(); more || a != event(EventJoin, "a") || b != event(EventLeave, "b") {
		t.Errorf("took %v and %v", a, b)
	}
	for i := range maxPendingEvents + 1 {
		if ok := e.put(event(EventJoin, fmt.Sprint(i))); ok != (i < maxPendingEvents) {
			t.Fatalf("event %d: %v", i, ok)
		}
	}
}

// Guards: after Close nothing is called back and everything returns ErrClosed;
// the metrics are free again.
func TestClosedPool(t *testing.T) {
	bubble(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		network := gossiptest.New()
		add := func(o *Options) { o.Registerer, o.Pool = registry, o.Name }
		nodes := cluster(t, network, 2, 2, add)
		if families, err := registry.Gather(); err != nil || len(families) < 6 {
			t.Errorf("%d metric families, %v", len(families), err)
		}
		closeAll(t, nodes[1:])
		closeAll(t, nodes[1:])
		if err := nodes[0].Broadcast(signed("k", "")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		closed := nodes[1]
		_, errPublish := closed.Publish(signed("d", ""))
		for _, err := range []error{
			errPublish, closed.Broadcast(signed("k", "")), closed.Join([]string{nodes[0].Address()}),
			closed.Leave(time.Second), closed.Update(closed.opts.Meta, time.Second),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if closed.got("k") != 0 {
			t.Error("called back after Close")
		}
		again := options("n01", RoleAgent)
		again.Transport = network.Host()
		add(&again)
		closeAll(t, []*node{nodes[0], start(t, again)})
	})
}
