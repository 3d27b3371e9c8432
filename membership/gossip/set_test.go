package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox/membership/gossip/gossiptest"
)

// Guards: a statement is idempotent. The callback comes once per key, whatever
// copies come by whatever way, also after it was forgotten.
func TestCallbackOncePerKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 4, 2, func(o *Options) { o.DirectStreams = true })
		settleMembers(t, nodes)
		raw := signed("k", "ack")
		for _, n := range nodes[2:] { // two members say the same
			if err := n.Broadcast(raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := nodes[3].Broadcast(signed("k", "ack in other bytes")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for _, n := range nodes[:2] {
			if n.got("k") != 1 {
				t.Errorf("%s was called back %d times", n.opts.Name, n.got("k"))
			}
		}
		if forgotten := nodes[0].Forget(func(key string) bool { return key == "k" }); forgotten != 1 {
			t.Fatalf("forgot %d statements", forgotten)
		}
		time.Sleep(20 * time.Second) // push-pull with members that did not forget
		if nodes[0].got("k") != 1 || len(nodes[0].Statements()) != 0 {
			t.Error("a forgotten statement came back")
		}
		if err := nodes[0].Broadcast(raw); err != nil || len(nodes[0].Statements()) != 0 {
			t.Errorf("a forgotten statement was broadcast again: %v", err)
		}
		closeAll(t, nodes)
	})
}

// Guards: what Validate refuses is not kept, called back or passed on; what it
// cannot judge yet comes again by push-pull.
func TestRefusedStatementIsOfferedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		var ready atomic.Bool
		unknown := errors.New("unknown identity")
		refusing := options("n1", RoleGateway)
		refusing.Transport = network.Host()
		refusing.ValidateStatement = func(raw []byte) (string, error) {
			if !ready.Load() {
				return "", unknown
			}
			return verify(raw)
		}
		nodes := append(cluster(t, network, 1, 0, nil), start(t, refusing))
		if err := nodes[1].Join([]string{nodes[0].Address()}); err != nil {
			t.Fatal(err)
		}
		settleMembers(t, nodes)
		if err := nodes[0].Broadcast(signed("k", "ack")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if nodes[1].got("k") != 0 || len(nodes[1].Statements()) != 0 || nodes[1].dropped(dropInvalid) == 0 {
			t.Error("an invalid statement was kept, called back or not counted")
		}
		ready.Store(true)
		time.Sleep(20 * time.Second)
		if nodes[1].got("k") != 1 {
			t.Error("a statement that can be judged now was not offered again")
		}
		if err := nodes[1].Broadcast([]byte("no signature")); !errors.Is(err, errSignature) {
			t.Errorf("broadcast of an invalid statement: %v", err)
		}
		if err := nodes[1].Broadcast(make([]byte, MaxStatement+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("broadcast of a statement too large: %v", err)
		}
		closeAll(t, nodes)
	})
}

// Guards: the sets are bounded; beyond the limit the oldest goes, counted.
func TestOldestGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 1, 1, func(o *Options) { o.MaxStatements = 3 })
		for i := range 5 {
			if err := nodes[0].Broadcast(signed(fmt.Sprint("k", i), "")); err != nil {
				t.Fatal(err)
			}
		}
		var keys []string
		for _, raw := range nodes[0].Statements() {
			key, _ := verify(raw)
			keys = append(keys, key)
		}
		if got := strings.Join(keys, " "); got != "k2 k3 k4" {
			t.Errorf("kept %s", got)
		}
		if nodes[0].dropped(dropEvicted) != 2 {
			t.Error("evictions are not counted")
		}
		closeAll(t, nodes)
	})
}

// Guards: a callback that blocks neither blocks memberlist nor Broadcast.
func TestBlockedCallbackBlocksNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 2, 2, nil)
		release := make(chan struct{})
		opts := options("blocked", RoleAgent)
		opts.Transport = network.Host()
		opts.ValidateStatement = verify
		opts.OnStatement = func([]byte) { <-release }
		opts.OnEvent = func(Event) { <-release }
		p, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Join([]string{nodes[0].Address()}); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			if err := nodes[0].Broadcast(signed(fmt.Sprint("k", i), "")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if len(p.Members()) != 3 || len(nodes[0].Members()) != 3 {
			t.Error("the member with the blocked callbacks is not there any more")
		}
		if len(p.Statements()) != 1 { // the others wait in the inbox
			t.Errorf("%d statements were judged during the callback", len(p.Statements()))
		}
		close(release)
		synctest.Wait()
		if len(p.Statements()) != 200 {
			t.Errorf("%d of 200 statements after the callback", len(p.Statements()))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		closeAll(t, nodes)
	})
}

// Guards: the shelf equals a simple model of it: arrival order, both limits, no
// return of what left recently.
func TestShelfEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit, limitBytes = 4, 20
		s := newShelf[int](limit, limitBytes)
		var kept, gone []int
		sizes := map[int]int{}
		leave := func(i int) {
			gone = append(gone, kept[i])
			kept = slices.Delete(kept, i, i+1)
		}
		total := func() (n int) {
			for _, k := range kept {
				n += sizes[k]
			}
			return n
		}
		recently := func(k int) bool {
			return slices.Contains(gone[max(0, len(gone)-TombstonesPerLimit*limit):], k)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k, size := rapid.IntRange(0, 30).Draw(t, "key"), rapid.IntRange(1, 9).Draw(t, "size")
				want := !slices.Contains(kept, k) && !recently(k)
				if want {
					kept, sizes[k] = append(kept, k), size
					for len(kept) > limit || total() > limitBytes {
						leave(0)
					}
				}
				if fresh, _ := s.add(k, make([]byte, size)); fresh != want {
					t.Fatalf("add %d: fresh %v, want %v", k, fresh, want)
				}
			},
			"forget": func(t *rapid.T) {
				k := rapid.IntRange(0, 30).Draw(t, "key")
				s.forget(func(have int) bool { return have == k })
				if i := slices.Index(kept, k); i >= 0 {
					leave(i)
				}
			},
			"": func(t *rapid.T) {
				if !slices.Equal(s.keys(), kept) || s.bytes != total() {
					t.Fatalf("keeps %v, want %v", s.keys(), kept)
				}
				for k := range 30 {
					if s.knows(k) != (slices.Contains(kept, k) || recently(k)) {
						t.Fatalf("knows %d: %v", k, s.knows(k))
					}
				}
			},
		})
	})
}

// Guards: Publish and fetch. A document reaches everybody through its hash,
// also one of the largest size; forgotten ones stay away.
func TestDocumentReachesEverybody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		network.Latency(func(gossiptest.Link) time.Duration { return time.Millisecond })
		nodes := cluster(t, network, 12, 2, nil)
		settleMembers(t, nodes)
		raw := signed("document", string(bytes.Repeat([]byte{'x'}, MaxDocument-64-9)))
		if len(raw) != MaxDocument {
			t.Fatalf("document of %d bytes", len(raw))
		}
		began := time.Now()
		h, err := nodes[5].Publish(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			for n != nodes[5] && n.gotDocument(h) == 0 {
				if time.Since(began) > time.Minute {
					t.Fatalf("%s has no document", n.opts.Name)
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
		}
		t.Log("everybody has the document after", time.Since(began))
		time.Sleep(30 * time.Second)
		for _, n := range nodes {
			if n != nodes[5] && n.gotDocument(h) != 1 {
				t.Errorf("%s was called back %d times", n.opts.Name, n.gotDocument(h))
			}
			if kept, ok := n.Document(h); !ok || !bytes.Equal(kept, raw) {
				t.Errorf("%s does not keep the document", n.opts.Name)
			}
		}
		nodes[0].ForgetDocuments(func(have Hash) bool { return have == h })
		time.Sleep(30 * time.Second)
		if _, ok := nodes[0].Document(h); ok {
			t.Error("a forgotten document came back")
		}
		if _, err := nodes[0].Publish(make([]byte, MaxDocument+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("publish of a document too large: %v", err)
		}
		closeAll(t, nodes)
	})
}

// Guards: a document travels by push-pull and streams when packets are cut, and
// a holder that does not answer is passed over.
func TestDocumentWithoutPackets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		nodes := cluster(t, network, 3, 1, nil)
		settleMembers(t, nodes)
		network.Cut(only(gossiptest.Stream))
		raw := signed("document", "")
		h, err := nodes[0].Publish(raw)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		for _, n := range nodes[1:] {
			if n.gotDocument(h) != 1 {
				t.Errorf("%s has no document", n.opts.Name)
			}
		}
		closeAll(t, nodes)
	})
}

// Guards: the fetcher asks the next holder when one fails or is silent, asks
// nobody twice, and is bounded.
func TestFetcherAsksTheNextHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked []string
		f := newFetcher(time.Second, func(_ Hash, holder string, done func(error)) {
			asked = append(asked, holder)
			if holder == "unreachable" {
				done(errors.New("refused"))
			}
		})
		h := Hash{1}
		for _, holder := range []string{"silent", "unreachable", "silent", "good"} {
			f.want(h, holder)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got := strings.Join(asked, " "); got != "silent unreachable good" {
			t.Errorf("asked %s", got)
		}
		f.settle(h)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(asked) != 3 || len(f.wants) != 0 {
			t.Error("asked on after it was settled")
		}
		for i := range maxWants + 1 {
			if ok := f.want(Hash{2, byte(i), byte(i >> 8)}, "silent"); ok != (i < maxWants) {
				t.Fatalf("want %d: %v", i, ok)
			}
		}
		f.close()
	})
}
