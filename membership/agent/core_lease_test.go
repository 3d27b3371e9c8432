package agent

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// grantLeases has the first n voters grant the newest request.
func (r *rig) grantLeases(n int) {
	r.t.Helper()
	raw := r.requests[len(r.requests)-1]
	request, err := rpc.OpenLeaseRequest(testCluster, raw, func(signalbox.Identity) ed25519.PublicKey { return r.w.key(r.name).Public().(ed25519.PublicKey) })
	r.w.must(err)
	for v := range n {
		grant, err := rpc.SealLeaseGrant(testCluster, request, r.w.voters[v])
		r.w.must(err)
		r.step(leaseReplied{&wire.LeaseReply{Grant: grant}})
	}
}

// leasedRig is an instance that may serve term 1 of a service with leases, and
// has asked for one.
func leasedRig(t *testing.T, change ...func(*rig)) *rig {
	t.Helper()
	w := newWorld(t, 3, 2)
	r := &rig{t: t, w: w, name: "a", dc: "east", now: time.Unix(1_000_000, 0), run: 1}
	for _, f := range change {
		f(r)
	}
	r.start()
	h := w.request(1, "", "east", []string{"a"})
	h.Leases = lease.Default()
	block := w.decide(signalbox.Request{Handover: h})
	r.reportNow()
	r.voters(3, block)
	r.step(granted{certificate: w.certify(block, false)})
	return r
}

// Where the term uses leases an instance serves with a live one only, which the
// driver has taken first (rule 2).
func TestServesWithLeaseOnly(t *testing.T) {
	r := leasedRig(t)
	if r.master || len(r.requests) == 0 {
		t.Fatalf("master %t without a lease, %d requests", r.master, len(r.requests))
	}
	r.grantLeases(1)
	if r.master || r.until != nil {
		t.Fatal("one voter of three is no quorum")
	}
	if p := r.core.status(0).Problem; !strings.HasPrefix(p, "no lease") {
		t.Errorf("problem %q", p)
	}
	began := r.now
	r.grantLeases(2)
	if !r.master || len(r.until) != 1 || !r.until[0].Deadline.Equal(began.Add(3*time.Second)) || r.until[0].Term != 1 {
		t.Fatalf("master %t, driver told %v", r.master, r.until)
	}
	for range 10 {
		r.pass(time.Second)
		r.grantLeases(2)
		if !r.master {
			t.Fatal("closed although the lease was renewed")
		}
	}
	last := r.until[len(r.until)-1].Deadline
	r.pass(last.Sub(r.now) - time.Millisecond)
	if !r.master {
		t.Error("closed before the lease had run out")
	}
	r.pass(2 * time.Millisecond)
	if r.master {
		t.Error("open after the lease has run out")
	}
	if r.held.park != 0 {
		t.Error("requests wait in an instance whose lease has run out")
	}
	r.pass(time.Second)
	r.grantLeases(2)
	if !r.master || r.core.Floor != 0 {
		t.Error("a new lease does not open it again")
	}
}

// A lease is counted from when it was asked for: one that is granted too late is
// worth nothing.
func TestLateGrant(t *testing.T) {
	r := leasedRig(t)
	first := r.requests[0]
	r.pass(4 * time.Second)
	r.requests = append(r.requests, first)
	r.grantLeases(3)
	if r.master || r.until != nil {
		t.Error("serves by a grant of a request from 4 s ago")
	}
}

// The boot-time clock counts what the wall clock does not, and when they disagree
// neither is believed.
func TestClocksApart(t *testing.T) {
	r := leasedRig(t)
	r.grantLeases(2)
	r.ahead = 2 * time.Second // suspended, and the wall clock set back
	r.step(ticked{})
	if r.master {
		t.Error("serves although the clocks disagree")
	}
}

// A driver without a dead-man, or one that takes no lease, never serves a term
// that uses them.
func TestNoDeadMan(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"driver without":   func(r *rig) { r.noDeadMan = true },
		"instance says no": func(r *rig) { r.deaf = true },
	} {
		r := leasedRig(t, change)
		if len(r.requests) > 0 {
			r.grantLeases(3)
		}
		if r.master || r.core.status(0).Problem == "" {
			t.Errorf("%s: master %t, problem %q", name, r.master, r.core.status(0).Problem)
		}
	}
}

// Draining needs the lease until the ack: what is in flight must still be answered.
func TestLeaseWhileDraining(t *testing.T) {
	r := leasedRig(t)
	r.grantLeases(3)
	r.inFlight = 1
	h := r.w.request(2, "east", "west", []string{"x"}, r.w.entry("a", "east", 1))
	h.FallbackLeases = lease.Default()
	block := r.w.decide(signalbox.Request{Handover: h})
	r.order(wire.OrderKind_ORDER_DRAIN, block)
	asked := len(r.requests)
	r.pass(1100 * time.Millisecond)
	if len(r.requests) == asked {
		t.Error("no lease is asked for while requests are in flight")
	}
	r.inFlight = 0
	r.step(ticked{})
	r.order(wire.OrderKind_ORDER_ACK, block)
	asked = len(r.requests)
	r.pass(5 * time.Second)
	if r.core.Floor != 2 || len(r.requests) != asked {
		t.Errorf("floor %d, %d requests after the ack", r.core.Floor, len(r.requests)-asked)
	}
}

// An agent that was started again leaves an instance alone that serves by the
// lease that it had: it enforces that by itself. When nobody renews it, it closes.
func TestAgentRestartKeepsLease(t *testing.T) {
	r := leasedRig(t)
	r.grantLeases(3)
	r.pass(time.Second)
	r.grantLeases(3)
	told := len(r.until)
	r.start()
	r.reportNow()
	if !r.master {
		t.Fatalf("the agent's restart closed the instance: %v", r.script)
	}
	r.grantLeases(2)
	if len(r.until) != told+1 || !r.master {
		t.Errorf("the driver was told %d times more; master %t", len(r.until)-told, r.master)
	}
	r.start()
	r.reportNow()
	r.pass(3100 * time.Millisecond)
	if r.master {
		t.Error("open although no voter granted anything to this agent")
	}
}

// An instance that closed by itself, when its lease had run out, was not started
// again: it needs a lease, not the voters' answers.
func TestLeaseOverIsNoRestart(t *testing.T) {
	r := leasedRig(t)
	r.grantLeases(3)
	r.now = r.now.Add(3100 * time.Millisecond)
	r.master, r.nonce = false, nil // it is heard of before the agent looks at its clock
	r.reportNow()
	r.grantLeases(3)
	if !r.master || r.nonce != nil {
		t.Errorf("master %t, asked the voters again: %t", r.master, r.nonce != nil)
	}
}

// A process that was started again has no lease, whatever the one before it was
// told: it is told before it is promoted.
func TestInstanceRestartNeedsLease(t *testing.T) {
	r := leasedRig(t)
	r.grantLeases(3)
	told := len(r.until)
	r.master, r.run = false, r.run+1
	r.deaf = true
	r.reportNow()
	r.voters(3, nil)
	if r.master {
		t.Error("promoted without being told of its lease")
	}
	r.deaf = false
	r.pass(time.Second)
	r.grantLeases(3)
	if !r.master || len(r.until) != told+1 {
		t.Errorf("master %t, told %d times more", r.master, len(r.until)-told)
	}
}

// What voters refuse is told to people.
func TestLeaseRefused(t *testing.T) {
	r := leasedRig(t)
	r.step(leaseReplied{&wire.LeaseReply{Voter: "v1", Problem: "this voter promised"}})
	if p := r.core.status(0).Problem; p != "no lease: v1: this voter promised" {
		t.Errorf("problem %q", p)
	}
	r.step(leaseReplied{&wire.LeaseReply{Grant: []byte("x")}})
	other, err := rpc.SealLeaseGrant(testCluster, rpc.Lease{Service: "orders", Term: 1, Identity: r.w.id("a"), TTL: 3 * time.Second}, r.w.key("b"))
	r.w.must(err)
	for range 3 {
		r.step(leaseReplied{&wire.LeaseReply{Grant: other}})
	}
	if r.master {
		t.Error("serves by grants of nobody")
	}
}
