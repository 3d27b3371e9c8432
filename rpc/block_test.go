package rpc_test

import (
	"crypto/x509"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// TestBlockComesBack guards that every request means the same after the wire.
func TestBlockComesBack(t *testing.T) {
	_, enrollment := enroll(t, instance("a"), key("a"), agentURI("app-1"))
	adopt := signalbox.Handover{ID: "adopt", Service: "basket", Term: 1, To: "east", Allowed: signalbox.AckOnly}
	in := instance("a")
	in.Service = "orders"
	singleton := failover()
	singleton.Service, singleton.Singleton, singleton.Previous = "ledger", true, id("a")
	singleton.Streams = signalbox.StreamsAbort
	singleton.FallbackLeases = signalbox.Leases{TTL: time.Second, Drift: 1}
	sent := blockOf(
		signalbox.Request{Handover: &adopt},
		signalbox.Request{Admit: &signalbox.Admission{Instance: in, Term: 7, Enrollment: enrollment}},
		signalbox.Request{Outcome: &signalbox.Outcome{Service: "stock", Block: signalbox.Digest{9}, Certified: 3, Evidence: [][]byte{{1, 2}}}},
		signalbox.Request{Remove: &signalbox.Removal{Service: "mail", Identity: id("b"), Evidence: []byte{3}}},
		signalbox.Request{Remove: &signalbox.Removal{
			Service: "print", Identity: id("c"), Admission: 12, Below: 8, Allowed: signalbox.ByOthers, By: "ada", Reason: "gone",
		}},
		signalbox.Request{Handover: singleton},
	)
	got, err := rpc.OpenBlock(trust, decideFor(t, "shop", "voter", sent).Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got.Block, sent) {
		t.Errorf("came back as\n%+v\nwant\n%+v", got.Block.Requests, sent.Requests)
	}
	if got.Handover("basket") == nil || got.Admission("orders") == nil || got.Handover("orders") != nil {
		t.Error("requests are not found by their service")
	}
}

func repeat(n int, make func(i int) *wire.RosterEntry) (out []*wire.RosterEntry) {
	for i := range n {
		out = append(out, make(i))
	}
	return out
}

// TestRequestBounds guards that what a proposer sends is bounded and well
// formed before anything else looks at it.
func TestRequestBounds(t *testing.T) {
	entry := func(name string) *wire.RosterEntry { return &wire.RosterEntry{PublicKey: public(name), Name: name} }
	good := func() *wire.Handover {
		return &wire.Handover{Id: "h", Service: "orders", Term: 8, Fallback: 9, From: "east", To: "west", Allowed: 3, Roster: []*wire.RosterEntry{entry("a")}}
	}
	decode := func(m *wire.Request) error {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = rpc.DecodeRequest(raw)
		return err
	}
	if err := decode(&wire.Request{Kind: &wire.Request_Handover{Handover: good()}}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", signalbox.MaxReason+1)
	for name, change := range map[string]func(*wire.Handover){
		"no id":              func(h *wire.Handover) { h.Id = "" },
		"long id":            func(h *wire.Handover) { h.Id = strings.Repeat("x", 81) },
		"service":            func(h *wire.Handover) { h.Service = "Orders" },
		"to":                 func(h *wire.Handover) { h.To = "" },
		"from":               func(h *wire.Handover) { h.From = "-east" },
		"term 0":             func(h *wire.Handover) { h.Term, h.Fallback = 0, 0 },
		"fallback far":       func(h *wire.Handover) { h.Fallback = 10 },
		"fallback below":     func(h *wire.Handover) { h.Fallback = 7 },
		"allowed":            func(h *wire.Handover) { h.Allowed = 256 },
		"negative budget":    func(h *wire.Handover) { h.HoldBudgetNano = -1 },
		"long budget":        func(h *wire.Handover) { h.HoldBudgetNano = int64(16 * time.Second) },
		"by":                 func(h *wire.Handover) { h.By = long },
		"reason":             func(h *wire.Handover) { h.Reason = long },
		"roster key":         func(h *wire.Handover) { h.Roster[0].PublicKey = []byte{1} },
		"roster name":        func(h *wire.Handover) { h.Roster[0].Name = long },
		"roster data center": func(h *wire.Handover) { h.Roster[0].DataCenter = long },
		"roster twice":       func(h *wire.Handover) { e := entry("a"); e.Admission = 5; h.Roster = append(h.Roster, e) },
		"roster long": func(h *wire.Handover) {
			h.Roster = repeat(1025, func(i int) *wire.RosterEntry { return entry(fmt.Sprint(i)) })
		},
		"incoming short":      func(h *wire.Handover) { h.Incoming = [][]byte{{1}} },
		"incoming twice":      func(h *wire.Handover) { h.Incoming = [][]byte{make([]byte, 16), make([]byte, 16)} },
		"incoming very many":  func(h *wire.Handover) { h.Incoming = make([][]byte, 1025) },
		"roster of null keys": func(h *wire.Handover) { h.Roster = []*wire.RosterEntry{{}} },
	} {
		h := good()
		change(h)
		if decode(&wire.Request{Kind: &wire.Request_Handover{Handover: h}}) == nil {
			t.Errorf("handover, %s: accepted", name)
		}
	}
	for name, m := range map[string]*wire.Request{
		"empty":                  {},
		"handover of nothing":    {Kind: &wire.Request_Handover{}},
		"admission of nothing":   {Kind: &wire.Request_Admit{}},
		"long enrollment":        {Kind: &wire.Request_Admit{Admit: &wire.Admission{Enrollment: make([]byte, rpc.MaxEnrollment+1)}}},
		"outcome of nothing":     {Kind: &wire.Request_Outcome{}},
		"outcome, block":         {Kind: &wire.Request_Outcome{Outcome: &wire.Outcome{Service: "orders", Block: []byte{1}}}},
		"outcome, evidence":      {Kind: &wire.Request_Outcome{Outcome: &wire.Outcome{Service: "orders", Evidence: [][]byte{make([]byte, rpc.MaxEvidence+1)}}}},
		"outcome, much evidence": {Kind: &wire.Request_Outcome{Outcome: &wire.Outcome{Service: "orders", Evidence: make([][]byte, 1025)}}},
		"removal of nothing":     {Kind: &wire.Request_Remove{}},
		"removal, evidence":      {Kind: &wire.Request_Remove{Remove: &wire.Removal{Service: "orders", Identity: make([]byte, 16), Evidence: make([]byte, rpc.MaxEvidence+1)}}},
	} {
		if decode(m) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := rpc.DecodeRequest(make([]byte, rpc.MaxBlock)); err == nil {
		t.Error("a request of the size of a block and more: accepted")
	}
}

// TestBlockBounds guards the bounds of a block as a whole, also of one that a
// quorum signed.
func TestBlockBounds(t *testing.T) {
	remove := func(s string) signalbox.Request {
		return signalbox.Request{Remove: &signalbox.Removal{Service: signalbox.Service(s), Identity: id("a")}}
	}
	seal := func(b *signalbox.Block) error {
		raw, err := rpc.EncodeBlock(b)
		if err != nil {
			return err
		}
		_, err = rpc.SealBlock(raw, "test", nil)
		return err
	}
	wants(t, seal(blockOf(remove("orders"), remove("orders"))), signalbox.ErrInvalid, "two requests")
	var many []signalbox.Request
	for i := range rpc.MaxRequests + 1 {
		many = append(many, remove(fmt.Sprintf("s%d", i)))
	}
	wants(t, seal(blockOf(many...)), signalbox.ErrInvalid, "at most 256")
	wants(t, seal(blockOf(signalbox.Request{})), signalbox.ErrInvalid, "empty request")
	huge := blockOf(signalbox.Request{Outcome: &signalbox.Outcome{Service: "orders", Evidence: [][]byte{make([]byte, rpc.MaxBlock)}}})
	wants(t, seal(huge), signalbox.ErrInvalid, "at most")
	_, err := rpc.OpenBlock(trust, make([]byte, rpc.MaxBlock+1))
	wants(t, err, signalbox.ErrInvalid, "at most")
	_, err = rpc.OpenCertificate(trust, make([]byte, rpc.MaxCertificate+1))
	wants(t, err, signalbox.ErrInvalid, "at most")
}

// TestEnrollment guards who may introduce an instance: an agent of the same
// data center, by the cluster's CA, with both keys.
func TestEnrollment(t *testing.T) {
	pool := func(ca *x509.Certificate) *x509.CertPool {
		p := x509.NewCertPool()
		p.AddCert(ca)
		return p
	}
	ca, raw := enroll(t, instance("a"), key("a"), agentURI("app-1"))
	in, agent, err := rpc.OpenEnrollment("shop", pool(ca), raw)
	if err != nil || !reflect.DeepEqual(in, instance("a")) || agent != agentURI("app-1") {
		t.Fatalf("%+v by %s: %v", in, agent, err)
	}
	_, _, err = rpc.OpenEnrollment("bank", pool(ca), raw)
	wants(t, err, signalbox.ErrUntrusted, "another cluster")
	otherCA, other := enroll(t, instance("a"), key("a"), agentURI("app-1"))
	_, _, err = rpc.OpenEnrollment("shop", pool(otherCA), raw)
	wants(t, err, signalbox.ErrUntrusted, "agent's certificate")
	for name, p := range map[string]rpc.Principal{
		"another data center": {Cluster: "shop", Role: rpc.RoleAgent, DataCenter: "west", Name: "app-1"},
		"a proxy":             {Cluster: "shop", Role: rpc.RoleProxy, DataCenter: "east", Name: "app-1"},
		"an operator":         {Cluster: "shop", Role: rpc.RoleOperator, Name: "ada"},
		"another cluster":     {Cluster: "bank", Role: rpc.RoleAgent, DataCenter: "east", Name: "app-1"},
	} {
		ca, raw := enroll(t, instance("a"), key("a"), p)
		if _, _, err := rpc.OpenEnrollment("shop", pool(ca), raw); err == nil {
			t.Errorf("%s may enroll an instance of east", name)
		}
	}
	ca, stolen := enroll(t, instance("a"), key("b"), agentURI("app-1"))
	_, _, err = rpc.OpenEnrollment("shop", pool(ca), stolen)
	wants(t, err, signalbox.ErrUntrusted, "not the signer's")
	bad := instance("a")
	bad.Name = "A"
	ca, raw2 := enroll(t, bad, key("a"), agentURI("app-1"))
	_, _, err = rpc.OpenEnrollment("shop", pool(ca), raw2)
	wants(t, err, signalbox.ErrInvalid, "instance name")
	request, err := rpc.EncodeRequest(&signalbox.Request{Admit: &signalbox.Admission{Enrollment: raw2}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rpc.DecodeRequest(request)
	wants(t, err, signalbox.ErrInvalid, "instance name")

	var mine, theirs wire.EnrollmentProof
	if proto.Unmarshal(raw, &mine) != nil || proto.Unmarshal(other, &theirs) != nil {
		t.Fatal("unmarshal")
	}
	mine.AgentSignature = theirs.AgentSignature
	mixed, _ := proto.Marshal(&mine)
	if _, err := rpc.EnrolledInstance("shop", mixed); err == nil {
		t.Error("another agent's signature counts")
	}
	for n := range len(raw) {
		if _, err := rpc.EnrolledInstance("shop", raw[:n]); err == nil {
			t.Fatalf("an enrollment cut after %d bytes opens", n)
		}
	}
}
