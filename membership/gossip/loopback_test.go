package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// loopback starts a pool on real sockets.
func loopback(t *testing.T, count, gateways int, change func(*Options)) []*node {
	t.Helper()
	var nodes []*node
	for i := range count {
		role := RoleAgent
		if i < gateways {
			role = RoleGateway
		}
		opts := options(fmt.Sprintf("n%02d", i), role)
		if i > 0 {
			opts.Seeds = []string{nodes[0].Address()}
		}
		if change != nil {
			change(&opts)
		}
		nodes = append(nodes, start(t, opts))
	}
	for _, n := range nodes {
		n.waitMembers(count)
	}
	return nodes
}

// Guards: on the real network statements and documents arrive, at once.
func TestLoopback(t *testing.T) {
	nodes := loopback(t, 5, 2, nil)
	var took []time.Duration
	for i := range 50 {
		key := fmt.Sprint("k", i)
		began := time.Now()
		if err := nodes[4].Broadcast(signed(key, "ack")); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[:4] {
			n.waitStatement(key)
			n.mu.Lock()
			took = append(took, n.at[key].Sub(began))
			n.mu.Unlock()
		}
	}
	slices.Sort(took)
	t.Logf("statement: p50 %v p90 %v p99 %v max %v", took[len(took)/2], took[len(took)*9/10], took[len(took)*99/100], took[len(took)-1])
	took = nil
	for i := range 20 {
		raw := signed(fmt.Sprint("d", i), string(bytes.Repeat([]byte{'x'}, 2000)))
		began := time.Now()
		h, err := nodes[0].Publish(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[1:] {
			n.wait("a document", func() bool { return n.documents[h] > 0 })
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	t.Logf("document of 2 kB: p50 %v p90 %v max %v", took[len(took)/2], took[len(took)*9/10], took[len(took)-1])
}

// Guards: keys are rotated while statements travel, and the old key is worth
// nothing afterwards.
func TestKeyRotationLive(t *testing.T) {
	nodes := loopback(t, 3, 1, nil)
	// One member sends without a pause, so that a rotation that is not safe for
	// memberlist's readers shows under the race detector.
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			key := fmt.Sprint("k", i)
			if err := nodes[1].Broadcast(signed(key, "")); err != nil {
				t.Error(err)
			}
			for nodes[0].got(key) == 0 {
				select {
				case <-stop:
					done <- i
					return
				default:
					runtime.Gosched()
				}
			}
		}
	}()
	old, next, other := testKey(1), testKey(2), testKey(3)
	rounds := 0
	each := func(what string, f func(*Pool) error) {
		t.Helper()
		for _, n := range nodes {
			if err := f(n.Pool); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		rounds++
		key := fmt.Sprint("round", rounds)
		if err := nodes[2].Broadcast(signed(key, "")); err != nil {
			t.Fatal(err)
		}
		nodes[0].waitStatement(key)
		nodes[1].waitStatement(key)
	}
	each("add", func(p *Pool) error { return p.AddKey(next) })
	each("add", func(p *Pool) error { return p.AddKey(other) })
	each("use", func(p *Pool) error { return p.UseKey(next) })
	each("remove", func(p *Pool) error { return p.RemoveKey(old) })
	for range 10 { // the middle one of three, again and again
		each("add", func(p *Pool) error { return p.AddKey(old) })
		each("remove", func(p *Pool) error { return p.RemoveKey(other) })
		each("add", func(p *Pool) error { return p.AddKey(other) })
		each("remove", func(p *Pool) error { return p.RemoveKey(old) })
	}
	for _, ring := range [][][]byte{{next, other, old}, {old, next, other}, {next, other, old}, {next, other}} { // as files have it
		each("set", func(p *Pool) error { return p.SetKeys(ring) })
	}
	close(stop)
	t.Log(<-done, "statements by the one that sends without a pause")
	for _, n := range nodes {
		if keys := n.ring.GetKeys(); len(keys) != 2 || !bytes.Equal(keys[0], next) || !bytes.Equal(keys[1], other) {
			t.Errorf("%s has %d keys", n.opts.Name, len(keys))
		}
	}
	stranger := start(t, options("old", RoleAgent))
	if err := stranger.Join([]string{nodes[0].Address()}); err == nil {
		t.Error("joined with the removed key")
	}
	for want, err := range map[error]error{
		ErrKeyInUse: nodes[0].RemoveKey(next), ErrUnknownKey: nodes[0].UseKey(old), ErrKeySize: nodes[0].AddKey(old[:16]),
	} {
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// Guards: removing a key does not write to the array that memberlist's readers
// hold without a lock.
func TestRemoveKeyLeavesReadersAlone(t *testing.T) {
	opts := options("n", RoleAgent)
	opts.Keys = [][]byte{testKey(1), testKey(2), testKey(3), testKey(4)}
	p := start(t, opts)
	held := p.ring.GetKeys()
	before := slices.Clone(held)
	if err := p.RemoveKey(testKey(2)); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(held, before, bytes.Equal) {
		t.Error("the keys that a reader holds have changed")
	}
	want := [][]byte{testKey(1), testKey(3), testKey(4)}
	if !slices.EqualFunc(p.ring.GetKeys(), want, bytes.Equal) {
		t.Errorf("%d keys are left", len(p.ring.GetKeys()))
	}
}

// Guards: Close leaves nothing behind on the real network: no goroutine of
// ours or memberlist's, and the port is free.
func TestCloseLeavesNothing(t *testing.T) {
	nodes := loopback(t, 3, 1, nil)
	port := nodes[0].guard.inner.(interface{ GetAutoBindPort() int }).GetAutoBindPort()
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	// memberlist's last goroutines see the end on their own.
	deadline := time.Now().Add(patience)
	for left := ours(); left != ""; left = ours() {
		if time.Now().After(deadline) {
			t.Fatalf("left behind:\n%s", left)
		}
		runtime.Gosched()
	}
	opts := options("again", RoleAgent)
	opts.BindPort = port
	if err := start(t, opts).Close(); err != nil {
		t.Error(err)
	}
}

func ours() string {
	buf := make([]byte, 1<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var left []string
	for _, s := range stacks[1:] { // the first one is this test
		if strings.Contains(s, "hashicorp/memberlist.") || strings.Contains(s, "gossip.(*") {
			left = append(left, s)
		}
	}
	return strings.Join(left, "\n\n")
}
