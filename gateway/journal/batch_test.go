package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestOrdersShareABlock guards that orders of several services that wait at the
// same time, as those of an evacuation do while a slot is being decided, land in
// one block: the first may go alone, all others follow together.
func TestOrdersShareABlock(t *testing.T) {
	a := newAssembly(t)
	const services = 8
	leader := a.members["east-1"]
	answer, refused := make(chan reply, services), make(chan reply, 1)
	// What the log does not allow, first of all, takes nobody down with it.
	leader.asked <- &ask{request: moving("other"), raw: []byte("other"), key: [32]byte{1}, replies: []chan reply{refused}, until: time.Now().Add(time.Minute)}
	for i := range services {
		r := newInstance(t, signalbox.Service(fmt.Sprintf("service-%d", i)), "a")
		raw, err := rpc.EncodeRequest(&r)
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := newAsk(raw)
		if err != nil {
			t.Fatal(err)
		}
		waiting.replies, waiting.until = []chan reply{answer}, time.Now().Add(time.Minute)
		leader.asked <- waiting
	}
	a.run(voterNames...)
	for range services {
		if got := <-answer; got.err != nil {
			t.Fatal(got.err)
		}
	}
	if got := <-refused; !errors.Is(got.err, signalbox.ErrRefused) {
		t.Errorf("a handover of a service without a master: %v", got.err)
	}
	most, blocks := 0, leader.opt.Journal.Index()
	for i := range blocks {
		b, err := leader.opt.Journal.Block(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[signalbox.Service]bool{}
		for j := range b.Requests {
			seen[b.Requests[j].Service()] = true
		}
		if len(seen) != len(b.Requests) || len(b.Requests) > rpc.MaxRequests {
			t.Errorf("block %d has %d requests for %d services", b.Index, len(b.Requests), len(seen))
		}
		most = max(most, len(b.Requests))
	}
	if most < services-1 {
		t.Errorf("at most %d of %d orders share a block; %d blocks", most, services, blocks)
	}
}

func (r reply) String() string {
	if r.block == nil {
		return fmt.Sprint(r.err)
	}
	return fmt.Sprint("block ", r.block.Index)
}

// moving is a handover of a service that has no master.
func moving(s signalbox.Service) signalbox.Request {
	return signalbox.Request{Handover: &signalbox.Handover{
		ID: "moving " + string(s), Service: s, From: "east", To: "west", Term: 2, Fallback: 3, Allowed: signalbox.AckOnly, HoldBudget: time.Second,
	}}
}

// holdWriter has nothing be written to a journal until release is called.
func holdWriter(t *testing.T, j *Journal) (release func()) {
	t.Helper()
	if err := j.PutNote(KindEndpoints, "held", nil); err != nil {
		t.Fatal(err)
	}
	held, let, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { // ends with release
		ended <- j.DropNotes(KindEndpoints, func(string) bool { close(held); <-let; return true })
	}()
	<-held
	return sync.OnceFunc(func() {
		close(let)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestOnlyVoterSharesBlocks guards that a voter which decides alone gathers what is
// asked for while a block is being written: it all stands in the next one, of each
// service one request, and what is refused, or wanted no longer, takes nobody down
// with it.
func TestOnlyVoterSharesBlocks(t *testing.T) {
	j, err := Open(t.TempDir(), trustOf(t), anyInstance)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	v := voterOf(t, j)
	release := holdWriter(t, j)
	defer release()
	gone, cancel := context.WithCancel(context.Background())
	var asked int64
	ask := func(ctx context.Context, r signalbox.Request) chan reply {
		out := make(chan reply, 1)
		go func() { // ends when the writer was let go
			b, err := v.Propose(ctx, r)
			out <- reply{b, err}
		}()
		for asked++; v.waiting.Load() != asked; {
			runtime.Gosched()
		}
		return out
	}
	first := ask(context.Background(), newInstance(t, "alone", "a"))
	for taken := false; !taken; runtime.Gosched() {
		v.mu.Lock()
		taken = len(v.asks) == 0
		v.mu.Unlock()
	}
	refused, left := ask(context.Background(), moving("other")), ask(gone, newInstance(t, "other", "a"))
	var together []chan reply
	for i := range 8 {
		together = append(together, ask(context.Background(), newInstance(t, signalbox.Service(fmt.Sprintf("service-%d", i)), "a")))
	}
	second := ask(context.Background(), newInstance(t, "service-0", "second"))
	again := ask(context.Background(), newInstance(t, "service-0", "a"))
	cancel()
	release()
	for i, want := range map[*chan reply]uint64{&first: 1, &second: 3} {
		if got := <-*i; got.err != nil || got.block.Index != want {
			t.Errorf("%s; want block %d", got, want)
		}
	}
	for i, out := range together {
		if got := <-out; got.err != nil || got.block.Index != 2 {
			t.Errorf("service-%d: %s; want block 2", i, got)
		}
	}
	for what, want := range map[*chan reply]error{&refused: signalbox.ErrRefused, &left: context.Canceled, &again: signalbox.ErrConflict} {
		if got := <-*what; !errors.Is(got.err, want) {
			t.Errorf("%s; want %v", got, want)
		}
	}
	if j.Index() != 3 || v.waiting.Load() != 0 || len(v.asks) != 0 {
		t.Errorf("%d blocks, %d wait, %d are queued", j.Index(), v.waiting.Load(), len(v.asks))
	}
}

// TestOnlyVoterIsBounded guards that no more wait for a voter than its maximum.
func TestOnlyVoterIsBounded(t *testing.T) {
	dir, _ := written(t)
	v := voterOf(t, openIn(t, dir))
	v.asks = make([]*ask, maxPending)
	if _, err := v.Propose(context.Background(), enroll(t, "e1")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatal(err)
	}
}
