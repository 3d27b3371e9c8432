package agent

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// startOf is an operator's mandate to start what the rig's status says waits.
func (r *rig) startOf(change ...func(*signalbox.Mandate)) []byte {
	r.t.Helper()
	st := r.core.status(0)
	m := signalbox.Mandate{
		Verb: signalbox.VerbStart, Operator: "ada", Service: "orders", ID: string(r.w.id(r.name)), Term: signalbox.Term(st.GetTerm()),
		Reason: "west and south are dark", At: r.now,
	}
	copy(m.Of[:], st.GetChallenge())
	for _, c := range change {
		c(&m)
	}
	seed := make([]byte, ed25519.SeedSize)
	raw, err := rpc.SealMandate(testCluster, m, ed25519.NewKeyFromSeed(seed), r.w.agentCertificate())
	r.w.must(err)
	return raw
}

// Rule 2: an instance that was started again and has no quorum serves on an
// operator's word for exactly this start, and on no other; the word is on the
// disk before it serves, and every gateway is told of it.
func TestAttestedStart(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	if r.core.status(0).GetChallenge() != nil {
		t.Fatal("an instance that serves offers to be started")
	}
	r.restart()
	r.voters(1, adopted)
	word := r.startOf()
	for name, m := range map[string][]byte{
		"another instance":  r.startOf(func(m *signalbox.Mandate) { m.ID = string(w.id("b")) }),
		"another service":   r.startOf(func(m *signalbox.Mandate) { m.Service = "tickets" }),
		"another term":      r.startOf(func(m *signalbox.Mandate) { m.Term++ }),
		"another challenge": r.startOf(func(m *signalbox.Mandate) { m.Of[0]++ }),
		"another verb":      r.startOf(func(m *signalbox.Mandate) { m.Verb = signalbox.VerbApprove }),
		"no mandate":        []byte("yes"),
	} {
		if r.step(startAttested{raw: m}); r.master {
			t.Fatalf("%s starts it", name)
		}
	}
	synced := false
	r.watch = func(e effect) bool {
		switch e := e.(type) {
		case persist:
			synced = synced || e.sync && e.record.Attested != nil
		case promote:
			if !synced {
				t.Error("serves before the word is on the disk")
			}
		}
		return true
	}
	r.step(startAttested{raw: word})
	if !r.master || r.term != 1 || len(r.attested) != 1 {
		t.Fatalf("master %t at %d, told %d times", r.master, r.term, len(r.attested))
	}
	r.step(connected{gateway: "g2"})
	if len(r.attested) != 2 || string(r.attested[1]) != string(word) {
		t.Error("a gateway that comes later is not told")
	}
	r.watch = nil
	for what, again := range map[string]func(){
		"instance and agent": r.restart,
		"the instance":       func() { r.master = false; r.run++; r.reportNow() },
	} {
		again()
		r.step(startAttested{raw: word})
		if r.master {
			t.Fatalf("the word for one start counts for another, of %s", what)
		}
		if r.step(startAttested{raw: r.startOf()}); !r.master {
			t.Fatalf("%s: a new word does not start it", what)
		}
	}
	for range maxAttested {
		r.restart()
		r.step(startAttested{raw: r.startOf()})
	}
	if len(r.disk.Attested) != maxAttested {
		t.Errorf("%d words are kept", len(r.disk.Attested))
	}
}

// Rule 2: a person's word stands in for answers that did not come, never against
// one that came: a voter that has seen the log go on without the instance keeps it
// closed. It gives no lease, and nothing to who may not serve.
func TestAttestedStartRefused(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	r.restart()
	r.step(answered{raw: w.beyond(0, w.id("a"), r.nonce, adopted, 99)})
	if r.step(startAttested{raw: r.startOf()}); r.master {
		t.Error("started although a voter says that the log went on without it")
	}

	leased := leasedRig(t)
	leased.restart()
	if leased.core.status(0).GetChallenge() == nil {
		t.Fatal("it waits for no quorum")
	}
	if leased.step(startAttested{raw: leased.startOf()}); leased.master || leased.core.fresh {
		t.Error("a word in the place of a lease")
	}

	standby := newRig(t, w, "x", "west")
	standby.reportNow()
	if st := standby.core.status(0); st.GetChallenge() != nil {
		t.Error("a standby offers to be started")
	}
	nobody := newRig(t, w, "a", "east")
	nobody.core.cfg.mandate = func([]byte, time.Time) (*signalbox.Mandate, error) { return nil, fmt.Errorf("expired") }
	nobody.disk = r.disk
	nobody.restart()
	nobody.core.cfg.mandate = func([]byte, time.Time) (*signalbox.Mandate, error) { return nil, fmt.Errorf("expired") }
	if nobody.step(startAttested{raw: nobody.startOf()}); nobody.master {
		t.Error("started by a signature that does not verify")
	}
}
