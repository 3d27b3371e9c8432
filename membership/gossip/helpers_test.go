package gossip

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/membership/gossip/gossiptest"
)

// author signs what the tests send: signature, then "key|text".
var author = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func signed(key, text string) []byte {
	body := []byte(key + "|" + text)
	return append(ed25519.Sign(author, body), body...)
}

var errSignature = errors.New("bad signature")

func verify(raw []byte) (string, error) {
	if len(raw) < ed25519.SignatureSize {
		return "", errSignature
	}
	body := raw[ed25519.SignatureSize:]
	if !ed25519.Verify(author.Public().(ed25519.PublicKey), body, raw[:ed25519.SignatureSize]) {
		return "", errSignature
	}
	key, _, _ := strings.Cut(string(body), "|")
	return key, nil
}

func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }

// node is a Pool with a memory of its callbacks.
type node struct {
	*Pool
	t *testing.T

	mu         sync.Mutex
	changed    *sync.Cond
	statements map[string]int
	at         map[string]time.Time
	documents  map[Hash]int
	events     []Event
}

func options(name string, role Role) Options {
	return Options{
		Pool: "test", Label: "signalbox/test/east", Keys: [][]byte{testKey(1)}, Name: name,
		Meta: Meta{Role: role, DataCenter: "east", GRPCAddress: "127.0.0.1:1"},
		Log:  zerolog.Nop(),
	}
}

func start(t *testing.T, opts Options) *node {
	t.Helper()
	n := &node{t: t, statements: map[string]int{}, at: map[string]time.Time{}, documents: map[Hash]int{}}
	n.changed = sync.NewCond(&n.mu)
	if opts.ValidateStatement == nil {
		opts.ValidateStatement = verify
	}
	opts.OnStatement = func(raw []byte) {
		key, err := verify(raw)
		if err != nil {
			t.Errorf("%s: callback with an invalid statement", opts.Name)
		}
		n.note(func() { n.statements[key]++; n.at[key] = time.Now() })
	}
	if opts.ValidateDocument == nil {
		opts.ValidateDocument = func(raw []byte) error { _, err := verify(raw); return err }
	}
	opts.OnDocument = func(h Hash, raw []byte) {
		if HashOf(raw) != h {
			t.Errorf("%s: document under a wrong hash", opts.Name)
		}
		n.note(func() { n.documents[h]++ })
	}
	opts.OnEvent = func(e Event) { n.note(func() { n.events = append(n.events, e) }) }
	pool, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	n.Pool = pool
	t.Cleanup(func() { _ = pool.Close() })
	return n
}

func (n *node) note(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	n.changed.Broadcast()
}

func (n *node) got(key string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.statements[key]
}

func (n *node) gotDocument(h Hash) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.documents[h]
}

// patience bounds how long a test on the real network waits for a condition.
const patience = 3 * time.Minute

// wait blocks until the condition over the callbacks' memory holds.
func (n *node) wait(what string, condition func() bool) {
	n.t.Helper()
	expired := false
	timer := time.AfterFunc(patience, func() { n.note(func() { expired = true }) })
	defer timer.Stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for !condition() {
		if expired {
			n.t.Fatalf("%s: waited %v for %s", n.opts.Name, patience, what)
		}
		n.changed.Wait()
	}
}

func (n *node) waitStatement(key string) {
	n.t.Helper()
	n.wait("statement "+key, func() bool { return n.statements[key] > 0 })
}

// waitMembers waits for events until so many members are known.
func (n *node) waitMembers(count int) {
	n.t.Helper()
	n.wait(fmt.Sprint(count, " members"), func() bool { return len(n.Members()) == count })
}

// cluster starts count members on a network, the first of them gateways, all
// joined over the first one.
func cluster(t *testing.T, network *gossiptest.Network, count, gateways int, change func(*Options)) []*node {
	t.Helper()
	var nodes []*node
	for i := range count {
		role := RoleAgent
		if i < gateways {
			role = RoleGateway
		}
		opts := options(fmt.Sprintf("n%02d", i), role)
		opts.Transport = network.Host()
		if change != nil {
			change(&opts)
		}
		n := start(t, opts)
		if i > 0 {
			if err := n.Join([]string{nodes[0].Address()}); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func closeAll(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
