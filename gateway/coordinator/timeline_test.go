package coordinator

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// TestPhasesInOrder: whatever order a gateway saw things in, phases follow one
// another, none is negative, and the certificate's time stays what it was.
func TestPhasesInOrder(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name string
		r    record
		want map[string][2]float64
	}{
		{"as it should be", record{
			holdAt: at(1), drainAt: at(3), drainedAt: at(5), ackedAt: at(8), sealedAt: at(9), servingAt: at(12), releasedAt: at(13), doneAt: at(20),
		}, map[string][2]float64{api.PhasePrepare: {0, 1}, api.PhaseDrain: {3, 5}, api.PhaseAck: {5, 8}, api.PhaseSeal: {8, 9}, api.PhasePromote: {9, 12}, api.PhaseSettle: {13, 20}}},
		{"evidence after the certificate", record{
			holdAt: at(1), drainAt: at(3), drainedAt: at(15), ackedAt: at(18), sealedAt: at(9), servingAt: at(12), releasedAt: at(13), doneAt: at(20),
		}, map[string][2]float64{api.PhaseDrain: {3, 9}, api.PhaseAck: {9, 9}, api.PhaseSeal: {9, 9}, api.PhasePromote: {9, 12}}},
		{"nobody drained", record{
			holdAt: at(1), sealedAt: at(9), servingAt: at(12), releasedAt: at(13), doneAt: at(20),
		}, map[string][2]float64{api.PhaseHold: {1, 9}, api.PhasePromote: {9, 12}}},
		{"released before it was seen to serve", record{
			holdAt: at(1), drainAt: at(3), drainedAt: at(5), ackedAt: at(8), sealedAt: at(9), servingAt: at(14), releasedAt: at(13), doneAt: at(13),
		}, map[string][2]float64{api.PhasePromote: {9, 14}, api.PhaseRelease: {14, 14}, api.PhaseSettle: {14, 14}}},
		{"superseded", record{
			holdAt: at(1), drainAt: at(3), shut: at(50),
		}, map[string][2]float64{api.PhaseDrain: {3, 50}}},
	} {
		c.r.began = began
		last := 0.0
		for _, p := range c.r.phases() {
			if p.BeginMS != last || p.EndMS == nil || *p.EndMS < p.BeginMS {
				t.Errorf("%s: phase %+v does not follow %v", c.name, p, last)
				continue
			}
			last = *p.EndMS
			if want, ok := c.want[p.Name]; ok && (want[0] != p.BeginMS || want[1] != *p.EndMS) {
				t.Errorf("%s: %s from %v to %v, want %v", c.name, p.Name, p.BeginMS, *p.EndMS, want)
			}
		}
	}
	open := record{began: began, holdAt: at(1), drainAt: at(3)}
	if p := open.phases(); p[len(p)-1].EndMS != nil {
		t.Errorf("an open phase has ended: %+v", p)
	}
}

// TestPhasesOfWhoStoodStill guards that a handover that went forward has all its
// phases also where this gateway heard of the drain, the evidence and the end at
// once; one that was given up has those that it had.
func TestPhasesOfWhoStoodStill(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	r := record{
		began: began, holdAt: at(1), drainedAt: at(30), ackedAt: at(30), sealedAt: at(30), releasedAt: at(40), doneAt: at(50),
		view: api.Handover{Certificate: &api.Certificate{}},
	}
	names := func() (out []string) {
		before := 0.0
		for _, p := range r.phases() {
			if p.EndMS == nil || p.BeginMS < before || *p.EndMS < p.BeginMS {
				t.Errorf("phase %+v after %v ms", p, before)
			}
			before = p.BeginMS
			out = append(out, p.Name)
		}
		return out
	}
	if got := names(); !slices.Equal(got, api.Phases()) {
		t.Errorf("phases %v", got)
	}
	r.view.Certificate.Fallback = true
	if got := names(); slices.Contains(got, api.PhaseDrain) {
		t.Errorf("given up before the drain, and its phases are %v", got)
	}
}

// TestEvidenceOfTheCertificate guards that a record tells who answered also where
// this gateway heard only of the certificate: all phases are there, and no row of
// the ack matrix is empty.
func TestEvidenceOfTheCertificate(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	r := record{
		began: began, holdAt: at(1), drainAt: at(3), sealedAt: at(9), servingAt: at(12), releasedAt: at(13), doneAt: at(20),
		due: map[string]bool{"a": true, "b": true}, undrained: map[string]bool{"a": true, "b": true},
		view: api.Handover{Term: 2, Acks: []api.Ack{{Identity: "a"}, {Identity: "b"}}}, cert: &signalbox.Certificate{},
	}
	for _, id := range []signalbox.Identity{"a", "b"} {
		r.cert.Evidence = append(r.cert.Evidence, signalbox.Evidence{Statement: signalbox.Statement{Kind: signalbox.SaysAck, Identity: id, Term: 2}})
	}
	r.evidence(r.cert.Evidence[0], at(7))
	r.fromCertificate(at(20))
	var names []string
	for _, p := range r.phases() {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, api.Phases()) {
		t.Errorf("phases %v", names)
	}
	for i, want := range []float64{7, 9} {
		if a := r.view.Acks[i]; a.Evidence != "ack" || a.AckedMS == nil || *a.AckedMS != want {
			t.Errorf("row %d: %+v, want an ack after %v ms", i, a, want)
		}
	}
}

// TestRecordKeepsRowsBounded: a gateway that tells of ever new proxies does not
// fill the memory.
func TestRecordKeepsRowsBounded(t *testing.T) {
	r := record{late: map[string]bool{}}
	h := handover.Held{}
	for n := range maxProxyRows + 10 {
		h.Proxies = append(h.Proxies, handover.ProxyHold{ID: strings.Repeat("p", 1+n%7) + time.Duration(n).String()})
	}
	r.heldBy(h, "west", time.Now())
	if len(r.view.Proxies) != maxProxyRows {
		t.Errorf("%d rows", len(r.view.Proxies))
	}
}

// TestClipKeepsText: what is clipped stays valid UTF-8; anything else cannot be
// encoded and would end the stream that carries it.
func TestClipKeepsText(t *testing.T) {
	for n := range 12 {
		if got := clip("Größe € 1", n); !utf8.ValidString(got) || len(got) > n {
			t.Errorf("clipped to %d bytes: %q", n, got)
		}
	}
}

// TestViewsFit: however many proxies and instances a gateway has, each frame
// fits a message, only the first one says that it lists all, and nothing is lost.
func TestViewsFit(t *testing.T) {
	view := &wire.SiteView{DataCenter: "east", AllProxies: true}
	for n := range 12000 {
		id := strings.Repeat("x", 200) + time.Duration(n).String()
		view.Proxies = append(view.Proxies, &wire.ProxyState{Id: id})
		view.Instances = append(view.Instances, &wire.InstanceStatus{Name: id})
	}
	proxies, instances := 0, 0
	for n, f := range split(view) {
		if size := proto.Size(f); size > rpc.MaxMessage {
			t.Errorf("a frame of %d bytes", size)
		}
		if f.GetView().GetAllProxies() != (n == 0) || f.GetView().GetDataCenter() != "east" {
			t.Errorf("frame %d: %v %q", n, f.GetView().GetAllProxies(), f.GetView().GetDataCenter())
		}
		proxies, instances = proxies+len(f.GetView().GetProxies()), instances+len(f.GetView().GetInstances())
	}
	if proxies != 12000 || instances != 12000 {
		t.Errorf("%d proxies and %d instances arrived", proxies, instances)
	}
	if none := split(&wire.SiteView{AllProxies: true}); len(none) != 1 {
		t.Errorf("no proxies are told in %d frames", len(none))
	}
}

// TestLateWords guards that a line says the phase in which a thing was said, not
// the one in which it was heard.
func TestLateWords(t *testing.T) {
	began := time.Unix(1_790_000_000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	r := &record{began: began, phase: handover.PhasePrepare}
	if p := r.phaseAt(at(1)); p != handover.PhasePrepare {
		t.Errorf("before anything: %s", p)
	}
	for _, s := range []step{{handover.PhaseHold, at(10)}, {handover.PhaseDrain, at(20)}, {handover.PhaseDrain, at(25)}, {handover.PhaseSeal, at(30)}, {handover.PhaseRelease, at(40)}} {
		r.enter(s.phase, s.at)
	}
	for ms, want := range map[int]handover.Phase{
		5: handover.PhasePrepare, 10: handover.PhaseHold, 19: handover.PhaseHold, 29: handover.PhaseDrain, 35: handover.PhaseSeal, 40: handover.PhaseRelease, 99: handover.PhaseRelease,
	} {
		if p := r.phaseAt(at(ms)); p != want {
			t.Errorf("said after %d ms: %s, want %s", ms, p, want)
		}
	}
	if len(r.steps) != 4 {
		t.Errorf("%d steps", len(r.steps))
	}
}
