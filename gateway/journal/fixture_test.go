package journal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

const orders = signalbox.Service("orders")

var start = time.Unix(1_700_000_000, 0)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func scheme(t testing.TB, voter string) *signature.List {
	t.Helper()
	key := keyOf(voter)
	l, err := signature.NewList([]signature.Voter{{Name: voter, PublicKey: key.Public().(ed25519.PublicKey)}}, 1, key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func trustOf(t testing.TB) rpc.Trust { return rpc.Trust{Cluster: "demo", Quorum: scheme(t, "east-1")} }

// instance returns an instance with an enrollment that parses.
func instance(t testing.TB, name string) (signalbox.Instance, []byte) {
	t.Helper()
	key := keyOf(name)
	public := key.Public().(ed25519.PublicKey)
	in := signalbox.Instance{Service: orders, DataCenter: "east", Name: name, Identity: rpc.IdentityOf(public), PublicKey: public}
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := rpc.SealEnrollment("demo", in, start, key, tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	return in, proof
}

func anyEnrollment(t testing.TB) func([]byte) (signalbox.Instance, error) {
	return func(raw []byte) (signalbox.Instance, error) {
		for _, n := range []string{"e1", "e2", "e3"} {
			if in, _ := instance(t, n); bytes.Contains(raw, in.PublicKey) {
				return in, nil
			}
		}
		return signalbox.Instance{}, signalbox.ErrUntrusted
	}
}

func openIn(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, trustOf(t), anyEnrollment(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func voterOf(t testing.TB, j *Journal) *Voter {
	return NewVoter(j, scheme(t, "east-1"), 1, "east-1", keyOf("east-1"), func() time.Time { return start })
}

func enroll(t testing.TB, name string) signalbox.Request {
	in, proof := instance(t, name)
	return signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}
}

func adoption(id string) signalbox.Request {
	e1 := keyOf("e1").Public().(ed25519.PublicKey)
	return signalbox.Request{Handover: &signalbox.Handover{
		ID: id, Service: orders, Term: 1, To: "east", Incoming: []signalbox.Identity{rpc.IdentityOf(e1)}, Allowed: signalbox.AckOnly,
	}}
}

// written is a journal with four blocks, closed; the blocks come along.
func written(t testing.TB) (dir string, blocks [][]byte) {
	t.Helper()
	dir = t.TempDir()
	j := openIn(t, dir)
	v := voterOf(t, j)
	for _, r := range []signalbox.Request{enroll(t, "e1"), enroll(t, "e2"), adoption("adopt"), enroll(t, "e3")} {
		if _, err := v.Propose(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	blocks, err := j.Blocks(1, 10)
	if err != nil || len(blocks) != 4 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, blocks
}
