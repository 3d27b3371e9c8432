package journal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

var voterNames = []string{"east-1", "west-1", "south-1"}

// assembly is three voters in this process; whatever one sends, the others
// receive, and it is looked at whether its disk has the vote already.
type assembly struct {
	t       testing.TB
	members map[string]*Member
	mu      sync.Mutex
	deaf    map[string]bool
}

func assemblyScheme(t testing.TB, voter string) *signature.List {
	t.Helper()
	var voters []signature.Voter
	for _, name := range voterNames {
		voters = append(voters, signature.Voter{Name: name, PublicKey: keyOf(name).Public().(ed25519.PublicKey)})
	}
	l, err := signature.NewList(voters, 2, keyOf(voter))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// instances are those of newInstance.
var instances = sync.OnceValue(func() (out []signalbox.Instance) {
	services := []signalbox.Service{orders, "other", "alone"}
	for i := range 12 {
		services = append(services, signalbox.Service(fmt.Sprintf("service-%d", i)))
	}
	for _, s := range services {
		for _, name := range []string{"a", "first", "second", "third", "later"} {
			public := keyOf(string(s) + name).Public().(ed25519.PublicKey)
			out = append(out, signalbox.Instance{Service: s, DataCenter: "east", Name: name, Identity: rpc.IdentityOf(public), PublicKey: public})
		}
	}
	return out
})

// anyInstance reads an enrolment of newInstance.
func anyInstance(raw []byte) (signalbox.Instance, error) {
	for _, in := range instances() {
		if bytes.Contains(raw, in.PublicKey) {
			return in, nil
		}
	}
	return signalbox.Instance{}, signalbox.ErrUntrusted
}

func newAssembly(t testing.TB) *assembly {
	t.Helper()
	a := &assembly{t: t, members: map[string]*Member{}, deaf: map[string]bool{}}
	for _, name := range voterNames {
		a.member(name, t.TempDir())
	}
	return a
}

func (a *assembly) member(name, dir string) *Member {
	a.t.Helper()
	l := assemblyScheme(a.t, name)
	j, err := Open(dir, rpc.Trust{Cluster: "demo", Quorum: l}, anyInstance)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = j.Close() })
	m, err := NewMember(MemberOptions{
		Journal: j, Scheme: l, Key: keyOf(name), Epoch: 1, Name: name, Voters: voterNames, Unavailable: 1, Timeout: 300 * time.Millisecond,
		Send: func(to string, raw []byte) { a.send(j, name, to, raw) }, Standings: func(context.Context) map[string]Standing { return a.standings(name) },
		Logger: zerolog.Nop(),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members[name] = m
	return m
}

// run has members vote until the test ends, or stop is called.
func (a *assembly) run(names ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, name := range names {
		m := a.members[name]
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				a.t.Error(err)
			}
		})
		wg.Go(func() { a.follow(ctx, m.opt.Journal) })
	}
	once := sync.OnceFunc(func() { cancel(); wg.Wait() })
	a.t.Cleanup(once)
	return once
}

// follow takes blocks from the others' logs, as the gateways' streams do.
func (a *assembly) follow(ctx context.Context, j *Journal) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		a.mu.Lock()
		var others []*Journal
		for _, m := range a.members {
			others = append(others, m.opt.Journal)
		}
		a.mu.Unlock()
		for _, other := range others {
			raw, err := other.Blocks(j.Index()+1, 10)
			for i := 0; i < len(raw) && err == nil; i++ {
				err = j.Append(raw[i])
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, signalbox.ErrConflict) && !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
				a.t.Error(err)
			}
		}
	}
}

func (a *assembly) standings(of string) map[string]Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]Standing{}
	for name, m := range a.members {
		if name != of {
			out[name] = m.opt.Journal.Standing()
		}
	}
	return out
}

// send guards that no vote leaves before it is on the disk, while it is at it.
func (a *assembly) send(j *Journal, from, to string, raw []byte) {
	msg, err := agreement.Decode(raw)
	if err != nil {
		a.t.Error(err)
		return
	}
	on, err := j.state()
	if err != nil {
		a.t.Error(err)
	}
	switch {
	case msg.Kind == agreement.Request || msg.Kind == agreement.Want || msg.Kind == agreement.Value:
	case on == nil || on.Slot != msg.Slot,
		msg.Kind == agreement.Proposal && on.VotedOne < msg.View, msg.Kind == agreement.VoteOne && on.VotedOne < msg.View,
		msg.Kind == agreement.Certified && on.Lock == nil, msg.Kind == agreement.VoteTwo && on.VotedTwo < msg.View,
		msg.Kind == agreement.Timeout && on.Ended < msg.View:
		a.t.Errorf("%s sent %s of slot %d, view %d; on its disk is %+v", from, msg.Kind, msg.Slot, msg.View, on)
	}
	a.mu.Lock()
	m, deaf := a.members[to], a.deaf[from] || a.deaf[to]
	a.mu.Unlock()
	if m != nil && !deaf {
		m.Receive(from, raw)
	}
}

// newInstance is an enrolment of a service's instance.
func newInstance(t testing.TB, s signalbox.Service, name string) signalbox.Request {
	t.Helper()
	key := keyOf(string(s) + name)
	public := key.Public().(ed25519.PublicKey)
	in := signalbox.Instance{Service: s, DataCenter: "east", Name: name, Identity: rpc.IdentityOf(public), PublicKey: public}
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := rpc.SealEnrollment("demo", in, start, key, tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	return signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}
}

// TestMembersDecide guards rule 9 and the batches: what any voter proposes is in
// its log when it returns, all logs become the same, and what waits at the same
// time is decided in few blocks. It runs with the leader deaf, too.
func TestMembersDecide(t *testing.T) {
	a := newAssembly(t)
	a.run(voterNames...)
	const services = 12
	var wg sync.WaitGroup
	for i := range services {
		name := voterNames[i%3]
		r := newInstance(t, signalbox.Service(fmt.Sprintf("service-%d", i)), "a")
		wg.Go(func() { a.propose(name, r) })
		if i%4 == 0 { // two gateways propose the same
			wg.Go(func() { a.propose("east-1", r) })
		}
	}
	wg.Wait()
	requests, newest := 0, uint64(0)
	for _, m := range a.members {
		newest = max(newest, m.opt.Journal.Index())
	}
	for _, m := range a.members {
		a.await(m.opt.Journal, newest)
	}
	for i := range newest {
		b, err := a.members["west-1"].opt.Journal.Block(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		requests += len(b.Requests)
	}
	if requests != services {
		t.Errorf("%d requests are in the log, want each of %d once", requests, services)
	}
	a.mu.Lock()
	a.deaf["east-1"] = true // the leader
	a.mu.Unlock()
	a.propose("south-1", newInstance(t, orders, "later"))
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if _, err := a.members["east-1"].Propose(ctx, newInstance(t, "alone", "a")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("a voter alone decided: %v", err)
	}
}

func (a *assembly) propose(name string, r signalbox.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		b, err := a.members[name].Propose(ctx, r)
		if err == nil {
			if have, err := a.members[name].opt.Journal.Block(b.Index); err != nil || have.Digest != b.Digest {
				a.t.Errorf("block %d is not in the log of %s: %v", b.Index, name, err)
			}
			return
		}
		if errors.Is(err, signalbox.ErrConflict) {
			return // decided for another gateway before this one asked
		}
		if !errors.Is(err, signalbox.ErrUnavailable) { // it has not begun yet
			a.t.Errorf("%s: %v", name, err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	a.t.Errorf("%s: not decided", name)
}

// await takes blocks from the others' logs up to an index.
func (a *assembly) await(j *Journal, index uint64) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	go a.follow(ctx, j)
	for {
		changed := j.Changed()
		if j.Index() >= index {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			a.t.Fatalf("block %d of %d", j.Index(), index)
		}
	}
}

// TestMemberValidates guards what a voter checks of a block before it votes.
func TestMemberValidates(t *testing.T) {
	a := newAssembly(t)
	m := a.members["west-1"]
	if err := m.opt.Journal.begin(); err != nil {
		t.Fatal(err)
	}
	good := func() *signalbox.Block {
		return &signalbox.Block{Cluster: "demo", Epoch: 1, Index: 1, At: time.Now(), Requests: []signalbox.Request{newInstance(t, orders, "a")}}
	}
	check := func(change func(*signalbox.Block)) error {
		b := good()
		change(b)
		raw, err := rpc.EncodeBlock(b)
		if err != nil {
			t.Fatal(err)
		}
		return m.validate(1, 0, raw)
	}
	if err := check(func(*signalbox.Block) {}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind   error
		change func(*signalbox.Block)
	}{
		"another cluster":     {signalbox.ErrUntrusted, func(b *signalbox.Block) { b.Cluster = "prod" }},
		"another epoch":       {signalbox.ErrUntrusted, func(b *signalbox.Block) { b.Epoch = 2 }},
		"another index":       {signalbox.ErrUntrusted, func(b *signalbox.Block) { b.Index = 2 }},
		"another proposer":    {signalbox.ErrUntrusted, func(b *signalbox.Block) { b.Proposer = 2 }},
		"another log":         {signalbox.ErrConflict, func(b *signalbox.Block) { b.Prev[0] = 1 }},
		"from the past":       {signalbox.ErrRefused, func(b *signalbox.Block) { b.At = b.At.Add(-time.Minute) }},
		"from the future":     {signalbox.ErrRefused, func(b *signalbox.Block) { b.At = b.At.Add(time.Minute) }},
		"against the log":     {signalbox.ErrConflict, func(b *signalbox.Block) { b.Requests[0].Admit.Term = 4 }},
		"an identity for two": {signalbox.ErrInvalid, func(b *signalbox.Block) { b.Requests = append(b.Requests, twice(t, b.Requests[0])) }},
		"a cluster too long":  {signalbox.ErrUntrusted, func(b *signalbox.Block) { b.Requests, b.Cluster = nil, strings.Repeat("x", 99) }},
	} {
		if err := check(c.change); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
	}
	raw, err := rpc.EncodeBlock(good())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.validate(1, 0, append(raw, 0xf8, 0x07, 0x01)); !errors.Is(err, signalbox.ErrInvalid) {
		t.Errorf("a field that this program does not know: %v", err)
	}
}

func twice(t testing.TB, r signalbox.Request) signalbox.Request {
	second := newInstance(t, "other", "a")
	second.Admit.Identity, second.Admit.PublicKey = r.Admit.Identity, r.Admit.PublicKey
	second.Admit.Enrollment = r.Admit.Enrollment
	return second
}

// TestMemberAnswers guards invariant 2 with several voters: the answer to a
// nonce takes in what the voter voted 2 for, though it does not know whether it
// was decided; also after a restart.
func TestMemberAnswers(t *testing.T) {
	a := newAssembly(t)
	dir := t.TempDir()
	m := a.member("west-1", dir)
	if err := m.opt.Journal.begin(); err != nil {
		t.Fatal(err)
	}
	block := &signalbox.Block{Cluster: "demo", Epoch: 1, Index: 1, At: start, Requests: []signalbox.Request{adoption("adopt")}}
	block.Requests[0].Handover.Allowed |= signalbox.EvidenceKinds(signalbox.Fence)
	raw, err := rpc.EncodeBlock(block)
	if err != nil {
		t.Fatal(err)
	}
	q := &agreement.Quorum{View: 1, Digest: rpc.BlockDigest(raw), Signature: []byte{1}}
	state := &agreement.State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, VotedTwo: 1, Value: raw, Lock: q, Locked: raw}
	id := rpc.IdentityOf(keyOf("e1").Public().(ed25519.PublicKey))
	answer := func(m *Member) rpc.Answer {
		sealed, err := m.Answer(orders, id, make([]byte, rpc.NonceSize))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := rpc.OpenAnswer("demo", sealed, func(signalbox.Identity) ed25519.PublicKey { return keyOf("west-1").Public().(ed25519.PublicKey) })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := answer(m); got.Index != 0 {
		t.Fatalf("%+v", got)
	}
	m.carry(agreement.Effects{Persist: state}, nil)
	for range 2 {
		if got := answer(m); got.Index != 1 || got.Block != rpc.BlockDigest(raw) || got.Beyond != 1 || !got.Allowed.Has(signalbox.Fence) {
			t.Errorf("%+v", got)
		}
		if err := m.opt.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		m = a.member("west-1", dir)
	}
}

// TestMemberFailedWrite guards rule 9: a voter whose disk failed says nothing.
func TestMemberFailedWrite(t *testing.T) {
	a := newAssembly(t)
	m := a.members["west-1"]
	sent := 0
	m.opt.Send = func(string, []byte) { sent++ }
	effects := agreement.Effects{
		Persist: &agreement.State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, Value: []byte("x")},
		Send:    []agreement.Outgoing{{To: 0, Message: &agreement.Message{Kind: agreement.VoteOne, Slot: 1, View: 1}}},
	}
	if m.carry(effects, nil); sent != 1 {
		t.Fatalf("%d messages", sent)
	}
	_ = m.opt.Journal.fail(1, errors.New("no space left"))
	if m.carry(effects, nil); sent != 1 {
		t.Error("it voted without a disk")
	}
	if _, err := m.Answer(orders, "", make([]byte, rpc.NonceSize)); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("it answered: %v", err)
	}
}

// TestFillsAreFew guards that a voter that lies does not fill the log.
func TestFillsAreFew(t *testing.T) {
	m := newAssembly(t).members["west-1"]
	allowed := 0
	for range 100 {
		if m.mayFill(2, start) {
			allowed++
		}
	}
	if allowed != maxFills || !m.mayFill(0, start) || !m.mayFill(2, start.Add(fillsEach+1)) {
		t.Errorf("%d slots filled for one voter", allowed)
	}
}
