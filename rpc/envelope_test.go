package rpc_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

func statement() signalbox.Statement {
	return signalbox.Statement{Kind: signalbox.SaysAck, Service: "orders", Term: 8, Block: signalbox.Digest{1}, Incarnation: 7, Admission: 11}
}

// TestEnvelopeIsForOneUse guards that a signature counts for its cluster,
// domain, version and signer only, over exactly its bytes.
func TestEnvelopeIsForOneUse(t *testing.T) {
	raw := seal(t, "a", statement())
	if _, err := rpc.OpenStatement("shop", raw, known); err != nil {
		t.Fatal(err)
	}
	_, err := rpc.OpenStatement("bank", raw, known)
	wants(t, err, signalbox.ErrUntrusted, "another cluster")
	_, _, err = rpc.Open(rpc.DomainAnswer, "shop", raw, rpc.MaxStatement, known)
	wants(t, err, signalbox.ErrInvalid, "domain")
	_, err = rpc.OpenStatement("shop", raw, func(signalbox.Identity) ed25519.PublicKey { return nil })
	wants(t, err, signalbox.ErrUnknown, "signer")
	_, err = rpc.OpenStatement("shop", raw, func(signalbox.Identity) ed25519.PublicKey { return public("b") })
	wants(t, err, signalbox.ErrUntrusted, "does not belong")
	_, err = rpc.OpenStatement("shop", raw, func(signalbox.Identity) ed25519.PublicKey { return []byte{1} })
	wants(t, err, signalbox.ErrUntrusted, "does not belong")

	for name, c := range map[string]struct {
		change func(*wire.Envelope)
		kind   error
	}{
		"version":         {func(e *wire.Envelope) { e.Version = 2 }, signalbox.ErrInvalid},
		"domain":          {func(e *wire.Envelope) { e.Domain = uint32(rpc.DomainBlock) }, signalbox.ErrInvalid},
		"payload":         {func(e *wire.Envelope) { e.Payload[0] ^= 1 }, signalbox.ErrUntrusted},
		"longer payload":  {func(e *wire.Envelope) { e.Payload = append(e.Payload, 0) }, signalbox.ErrUntrusted},
		"signature":       {func(e *wire.Envelope) { e.Signature[3] ^= 1 }, signalbox.ErrUntrusted},
		"short signature": {func(e *wire.Envelope) { e.Signature = e.Signature[:63] }, signalbox.ErrInvalid},
		"signer":          {func(e *wire.Envelope) { e.Signer = rpc.IdentityToBytes(id("b")) }, signalbox.ErrUntrusted},
		"short signer":    {func(e *wire.Envelope) { e.Signer = e.Signer[:15] }, signalbox.ErrInvalid},
	} {
		var e wire.Envelope
		if err := proto.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		c.change(&e)
		bad, _ := proto.Marshal(&e)
		if _, err := rpc.OpenStatement("shop", bad, known); !errors.Is(err, c.kind) {
			t.Errorf("%s changed: got %v, want %v", name, err, c.kind)
		}
	}
	for n := range len(raw) {
		if _, err := rpc.OpenStatement("shop", raw[:n], known); err == nil {
			t.Fatalf("a statement cut after %d bytes opens", n)
		}
	}
}

// TestStatementFitsAPacket guards that the longest statement stays within
// MaxStatement, and that nothing longer is opened.
func TestStatementFitsAPacket(t *testing.T) {
	s := statement()
	s.Service = signalbox.Service(strings.Repeat("s", signalbox.MaxName))
	s.Address = strings.Repeat("a", signalbox.MaxAddress)
	s.Term, s.Incarnation, s.Admission = ^signalbox.Term(0), ^uint64(0), ^uint64(0)
	s.Block = signalbox.Digest(bytes.Repeat([]byte{255}, 32))
	e, err := rpc.SealStatement("shop", s, key("a"))
	if err != nil {
		t.Fatalf("the longest statement: %v", err)
	}
	if got, err := rpc.OpenStatement("shop", e.Envelope, known); err != nil || !reflect.DeepEqual(got.Statement, e.Statement) {
		t.Errorf("the longest statement comes back as %+v, %v", got.Statement, err)
	}
	s.Kind, s.Address, s.Position = signalbox.SaysAck, "", bytes.Repeat([]byte{255}, signalbox.MaxPosition)
	long, err := rpc.SealStatement("shop", s, key("a"))
	if err != nil {
		t.Fatalf("the longest ack: %v", err)
	}
	if got, err := rpc.OpenStatement("shop", long.Envelope, known); err != nil || !bytes.Equal(got.Position, s.Position) {
		t.Errorf("the longest ack comes back as %+v, %v", got.Statement, err)
	}
	_, err = rpc.OpenStatement("shop", append(e.Envelope, make([]byte, rpc.MaxStatement)...), known)
	wants(t, err, signalbox.ErrInvalid, "at most 300")
	_, err = rpc.OpenStatement("shop", nil, known)
	wants(t, err, signalbox.ErrInvalid, "0 bytes")
}

// TestSealRefuses guards that nothing is signed that nobody could open.
func TestSealRefuses(t *testing.T) {
	for name, change := range map[string]func(*signalbox.Statement){
		"kind 0":     func(s *signalbox.Statement) { s.Kind = 0 },
		"kind 6":     func(s *signalbox.Statement) { s.Kind = 6 },
		"service":    func(s *signalbox.Statement) { s.Service = "Orders" },
		"no service": func(s *signalbox.Statement) { s.Service = "" },
		"address":    func(s *signalbox.Statement) { s.Address = strings.Repeat("a", signalbox.MaxAddress+1) },
		"serving with a position": func(s *signalbox.Statement) {
			s.Kind, s.Position = signalbox.SaysServing, signalbox.Position("p")
		},
		"ack with address and position": func(s *signalbox.Statement) {
			s.Kind, s.Address, s.Position = signalbox.SaysAck, "h:1", signalbox.Position("p")
		},
		"position": func(s *signalbox.Statement) {
			s.Kind, s.Address, s.Position = signalbox.SaysAck, "", make([]byte, signalbox.MaxPosition+1)
		},
	} {
		s := statement()
		change(&s)
		if _, err := rpc.SealStatement("shop", s, key("a")); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	if _, err := rpc.Seal(rpc.DomainStatement, "shop", nil, ed25519.PrivateKey(make([]byte, ed25519.PrivateKeySize-1))); err == nil {
		t.Error("sealed with half a key")
	}
}

// TestSignedGarbage guards that a genuine signature over malformed content does
// not make it well-formed: a member's key may be in the wrong hands.
func TestSignedGarbage(t *testing.T) {
	good := &wire.Statement{Kind: 2, Service: "orders", Term: 8, Block: make([]byte, 32)}
	for name, change := range map[string]func(*wire.Statement){
		"kind":                 func(s *wire.Statement) { s.Kind = 300 },
		"service":              func(s *wire.Statement) { s.Service = "../etc" },
		"block":                func(s *wire.Statement) { s.Block = make([]byte, 31) },
		"address":              func(s *wire.Statement) { s.Address = strings.Repeat("a", signalbox.MaxAddress+1) },
		"long position":        func(s *wire.Statement) { s.Position = make([]byte, signalbox.MaxPosition+1) },
		"position of a refuse": func(s *wire.Statement) { s.Kind, s.Position = 3, []byte("p") },
	} {
		m := proto.Clone(good).(*wire.Statement)
		change(m)
		payload, _ := proto.Marshal(m)
		raw, err := rpc.Seal(rpc.DomainStatement, "shop", payload, key("a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = rpc.OpenStatement("shop", raw, known); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%s: got %v, want it to be invalid", name, err)
		}
	}
	raw, _ := rpc.Seal(rpc.DomainStatement, "shop", []byte{0xff}, key("a"))
	_, err := rpc.OpenStatement("shop", raw, known)
	wants(t, err, signalbox.ErrInvalid, "")

	ans, err := rpc.SealAnswer("shop", rpc.Answer{Service: "orders", Identity: id("a"), Nonce: []byte("short")}, key("voter"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = rpc.OpenAnswer("shop", ans, known)
	wants(t, err, signalbox.ErrInvalid, "nonce")
	ans, _ = rpc.SealAnswer("shop", rpc.Answer{Service: "O!", Identity: id("a"), Nonce: make([]byte, rpc.NonceSize)}, key("voter"))
	_, _, err = rpc.OpenAnswer("shop", ans, known)
	wants(t, err, signalbox.ErrInvalid, "service name")
}

// TestStatementKey guards that different statements are kept apart and the same
// one is the same.
func TestStatementKey(t *testing.T) {
	seen := map[string]bool{rpc.StatementKey(statement()): true}
	for name, change := range map[string]func(*signalbox.Statement){
		"kind": func(s *signalbox.Statement) { s.Kind = signalbox.SaysRefuse }, "service": func(s *signalbox.Statement) { s.Service = "b" },
		"term": func(s *signalbox.Statement) { s.Term = 9 }, "identity": func(s *signalbox.Statement) { s.Identity = id("b") },
		"incarnation": func(s *signalbox.Statement) { s.Incarnation = 8 }, "admission": func(s *signalbox.Statement) { s.Admission = 12 },
		"block": func(s *signalbox.Statement) { s.Block = signalbox.Digest{2} },
	} {
		s := statement()
		change(&s)
		if seen[rpc.StatementKey(s)] {
			t.Errorf("%s does not count", name)
		}
		seen[rpc.StatementKey(s)] = true
	}
}
