package rpc_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// key derives a fixed key from a name, so that golden vectors stay.
func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("signalbox test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) ed25519.PublicKey { return key(name).Public().(ed25519.PublicKey) }

func id(name string) signalbox.Identity { return rpc.IdentityOf(public(name)) }

// oneVoter is a quorum of one, in place of membership/signature, which stands
// above this package.
type oneVoter struct{ name string }

func (v oneVoter) VerifyQuorum(scheme string, message, signature []byte) error {
	if scheme != "test" || !ed25519.Verify(public(v.name), message, signature) {
		return fmt.Errorf("%w: not the voter's signature", signalbox.ErrUntrusted)
	}
	return nil
}

var trust = rpc.Trust{Cluster: "shop", Quorum: oneVoter{"voter"}}

// roster are the instances of the old master, admitted at 11, 12 and 13.
var roster = []string{"a", "b", "c"}

func handover() *signalbox.Handover {
	h := &signalbox.Handover{
		ID: "orders-8", Service: "orders", Term: 8, Fallback: 9, From: "east", To: "west",
		Incoming: []signalbox.Identity{id("x"), id("y")}, Allowed: signalbox.AckOnly,
		HoldBudget: 5 * time.Second, AllowLateProxies: true, By: "ada", Reason: "maintenance",
	}
	for i, name := range roster {
		h.Roster = append(h.Roster, signalbox.RosterEntry{
			Identity: id(name), PublicKey: public(name), Name: "orders-" + name, DataCenter: "east", Admission: uint64(11 + i),
		})
	}
	return h
}

func blockOf(requests ...signalbox.Request) *signalbox.Block {
	return &signalbox.Block{
		Cluster: "shop", Epoch: 1, Index: 42, Prev: sha256.Sum256([]byte("block 41")),
		At: time.Unix(1790000000, 123456789), Requests: requests,
	}
}

// decideFor has a voter sign a block for a cluster.
func decideFor(t testing.TB, cluster, voter string, b *signalbox.Block) *signalbox.DecidedBlock {
	t.Helper()
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		t.Fatal(err)
	}
	sig := ed25519.Sign(key(voter), rpc.SigningInput(rpc.DomainBlock, cluster, raw))
	d, err := rpc.SealBlock(raw, "test", sig)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func decide(t testing.TB, h *signalbox.Handover) *signalbox.DecidedBlock {
	t.Helper()
	return decideFor(t, "shop", "voter", blockOf(signalbox.Request{Handover: h}))
}

// answer is what roster member i says of a block.
func answer(d *signalbox.DecidedBlock, i int, kind signalbox.StatementKind) signalbox.Statement {
	h := d.Requests[0].Handover
	s := signalbox.Statement{
		Kind: kind, Service: h.Service, Term: h.Term, Block: d.Digest, Incarnation: 7, Admission: uint64(11 + i),
	}
	if kind == signalbox.SaysLeave {
		s.Term, s.Block = 5, signalbox.Digest{}
	}
	return s
}

func seal(t testing.TB, who string, s signalbox.Statement) []byte {
	t.Helper()
	e, err := rpc.SealStatement("shop", s, key(who))
	if err != nil {
		t.Fatal(err)
	}
	return e.Envelope
}

func acks(t testing.TB, d *signalbox.DecidedBlock) (out [][]byte) {
	t.Helper()
	for i, name := range roster {
		out = append(out, seal(t, name, answer(d, i, signalbox.SaysAck)))
	}
	return out
}

// known looks up the keys of all test identities.
func known(of signalbox.Identity) ed25519.PublicKey {
	for _, name := range []string{"a", "b", "c", "x", "y", "voter"} {
		if id(name) == of {
			return public(name)
		}
	}
	return nil
}

// wants checks that an error is of a kind and says something.
func wants(t *testing.T, err, kind error, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("got error %v, want one that is %q and says %q", err, kind, says)
	}
}
