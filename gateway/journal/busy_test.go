package journal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"os"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// every is after how many blocks a snapshot is due in these tests.
const every = 8

func openEvery(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := OpenEvery(dir, trustOf(t), anyEnrollment(t), every)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// west is an instance of the other data center.
func west(t testing.TB) signalbox.Instance {
	in, _ := instance(t, "w1")
	in.DataCenter = "west"
	return in
}

// eitherSide is the check of enrollments where there are two data centers.
func eitherSide(t testing.TB) func([]byte) (signalbox.Instance, error) {
	inEast := anyEnrollment(t)
	return func(raw []byte) (signalbox.Instance, error) {
		if in := west(t); bytes.Contains(raw, in.PublicKey) {
			return in, nil
		}
		return inEast(raw)
	}
}

func enrollWest(t testing.TB) signalbox.Request {
	in := west(t)
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := rpc.SealEnrollment("demo", in, start, keyOf("w1"), tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	return signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}
}

// busy is a voter with a log that grows by handovers back and forth.
type busy struct {
	t     testing.TB
	j     *Journal
	v     *Voter
	moved int
	// leases are those of the next terms.
	leases signalbox.Leases
}

func newBusy(t testing.TB, dir string) *busy {
	t.Helper()
	return newBusyIn(t, dir, os.OpenFile)
}

func newBusyIn(t testing.TB, dir string, file openFile) *busy {
	return newBusyEvery(t, dir, every, file)
}

func newBusyEvery(t testing.TB, dir string, blocks uint64, file openFile) *busy {
	t.Helper()
	j, err := open(dir, trustOf(t), eitherSide(t), blocks, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	b := &busy{t: t, j: j, v: voterOf(t, j)}
	if j.Index() == 0 {
		b.propose(enroll(t, "e1"))
		b.propose(enrollWest(t))
		b.propose(adoption("adopt"))
	}
	return b
}

func (b *busy) propose(r signalbox.Request) *signalbox.DecidedBlock {
	b.t.Helper()
	d, err := b.v.Propose(context.Background(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// handover moves the service to the other data center, with its outcome: two
// blocks.
func (b *busy) handover() {
	b.t.Helper()
	b.moved++
	var h *signalbox.Handover
	b.j.View(func(l *handover.Ledger) { h = next(l, fmt.Sprintf("move-%d-%d", l.Index(), b.moved)) })
	h.Leases = b.leases
	d := b.propose(signalbox.Request{Handover: h})
	var evidence [][]byte
	for _, e := range h.Roster {
		ack, err := rpc.SealStatement("demo", signalbox.Statement{Kind: signalbox.SaysAck, Service: orders, Term: h.Term, Block: d.Digest, Admission: e.Admission}, keyOf(e.Name))
		if err != nil {
			b.t.Fatal(err)
		}
		evidence = append(evidence, ack.Envelope)
	}
	b.propose(signalbox.Request{Outcome: &signalbox.Outcome{Service: orders, Block: d.Digest, Certified: h.Term, Evidence: evidence}})
}

func next(l *handover.Ledger, id string) *signalbox.Handover {
	st := l.Service(orders)
	to := map[signalbox.DataCenter]signalbox.DataCenter{"east": "west", "west": "east"}[st.Master()]
	name := map[signalbox.DataCenter]string{"east": "e1", "west": "w1"}[to]
	return &signalbox.Handover{
		ID: id, Service: orders, Term: st.Last + 1, Fallback: st.Last + 2, From: st.Master(), To: to,
		FallbackLeases: st.Certificate.Leases(), Incoming: []signalbox.Identity{rpc.IdentityOf(keyOf(name).Public().(ed25519.PublicKey))}, Roster: l.Roster(orders, to), Allowed: signalbox.AckOnly, HoldBudget: signalbox.MaxHoldBudget,
	}
}

// bound proposes the snapshot that is due, if one is, and compacts.
func (b *busy) bound() {
	b.t.Helper()
	due, err := b.j.SnapshotDue()
	if err != nil {
		b.t.Fatal(err)
	}
	if due != nil {
		b.propose(signalbox.Request{Snapshot: due})
	}
	if err := b.j.Compact(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *busy) run(handovers int) {
	b.t.Helper()
	for range handovers {
		b.handover()
		b.bound()
	}
}

func digestOf(t testing.TB, j *Journal) signalbox.Digest {
	t.Helper()
	var c *handover.Candidate
	var err error
	j.View(func(l *handover.Ledger) { c, err = l.State() })
	if err != nil {
		t.Fatal(err)
	}
	return c.Digest
}
