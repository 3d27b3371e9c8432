package rpc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

func leaseOf(name string) rpc.Lease {
	return rpc.Lease{
		Service: "orders", Term: 8, Identity: id(name), Admission: 12, Incarnation: 7,
		Nonce: [rpc.LeaseNonceSize]byte{1, 2, 3}, TTL: 3 * time.Second,
	}
}

// Requests are the instance's, grants the voter's: one never counts as the other,
// nor under another key or in another cluster.
func TestLeaseMessages(t *testing.T) {
	request, err := rpc.SealLeaseRequest("shop", leaseOf("a"), key("a"))
	if err != nil {
		t.Fatal(err)
	}
	grant, err := rpc.SealLeaseGrant("shop", leaseOf("a"), key("voter"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rpc.OpenLeaseRequest("shop", request, known); err != nil || got != leaseOf("a") {
		t.Errorf("request: %+v, %v", got, err)
	}
	if got, err := rpc.InspectLeaseRequest(request); err != nil || got != leaseOf("a") {
		t.Errorf("request, inspected: %+v, %v", got, err)
	}
	if got, voter, err := rpc.OpenLeaseGrant("shop", grant, known); err != nil || voter != id("voter") || got != leaseOf("a") {
		t.Errorf("grant: %+v by %s, %v", got, voter, err)
	}
	if _, err := rpc.OpenLeaseRequest("shop", grant, known); !errors.Is(err, signalbox.ErrInvalid) {
		t.Errorf("a grant as a request: %v", err)
	}
	if _, _, err := rpc.OpenLeaseGrant("shop", request, known); !errors.Is(err, signalbox.ErrInvalid) {
		t.Errorf("a request as a grant: %v", err)
	}
	if _, _, err := rpc.OpenLeaseGrant("other", grant, known); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("a grant of another cluster: %v", err)
	}
	stolen, err := rpc.SealLeaseRequest("shop", leaseOf("a"), key("b"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rpc.OpenLeaseRequest("shop", stolen, known); err != nil || got.Identity != id("b") {
		t.Errorf("a request speaks for %s, not for its signer: %v", got.Identity, err)
	}
	var env wire.Envelope
	if err := proto.Unmarshal(grant, &env); err != nil {
		t.Fatal(err)
	}
	env.Payload[len(env.Payload)-1]++
	changed, _ := proto.Marshal(&env)
	if _, _, err := rpc.OpenLeaseGrant("shop", changed, known); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("a changed grant: %v", err)
	}
}

func TestLeaseForm(t *testing.T) {
	for name, change := range map[string]func(*rpc.Lease){
		"no service": func(l *rpc.Lease) { l.Service = "" }, "no term": func(l *rpc.Lease) { l.Term = 0 },
		"too short": func(l *rpc.Lease) { l.TTL = time.Millisecond }, "too long": func(l *rpc.Lease) { l.TTL = time.Hour },
	} {
		l := leaseOf("a")
		change(&l)
		raw, err := rpc.SealLeaseRequest("shop", l, key("a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rpc.OpenLeaseRequest("shop", raw, known); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := leaseOf("a")
	l.Service = signalbox.Service(strings.Repeat("a", signalbox.MaxName))
	raw, err := rpc.SealLeaseGrant("shop", l, key("voter"))
	if err != nil || len(raw) > rpc.MaxStatement {
		t.Errorf("the longest grant has %d bytes, at most %d: %v", len(raw), rpc.MaxStatement, err)
	}
}

func FuzzOpenLease(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l, err := rpc.InspectLeaseRequest(raw); err == nil && (l.Term == 0 || l.TTL > signalbox.MaxLeaseTTL || signalbox.CheckName("service", string(l.Service)) != nil) {
			t.Errorf("request %+v", l)
		}
		if l, err := rpc.OpenLeaseRequest("shop", raw, known); err == nil && known(l.Identity) == nil {
			t.Errorf("opened %+v", l)
		}
		if l, voter, err := rpc.OpenLeaseGrant("shop", raw, known); err == nil && (known(voter) == nil || rpc.IdentityToBytes(l.Identity) == nil) {
			t.Errorf("opened %+v by %s", l, voter)
		}
	})
}
