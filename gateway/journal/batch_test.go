package journal

import (
	"fmt"
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
	answer := make(chan reply, services)
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
