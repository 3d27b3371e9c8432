package journal

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestLeaderForwards guards that a leader whose proposals were lost and who ended
// its own view does not wait alone: the others have to know of the request, or
// none of them ends the view with it (tests/sim found it: nothing was
// decided any more).
func TestLeaderForwards(t *testing.T) {
	m := newAssembly(t).members["east-1"]
	forwarded := 0
	m.opt.Send = func(_ string, raw []byte) {
		if msg, err := agreement.Decode(raw); err == nil && msg.Kind == agreement.Request && len(msg.Value) > 0 {
			forwarded++
		}
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	r := newInstance(t, orders, "a")
	raw, err := rpc.EncodeRequest(&r)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAsk(raw)
	if err != nil {
		t.Fatal(err)
	}
	a.until = time.Now().Add(time.Hour)
	m.pending.add(a, time.Now())
	if err := m.keepUp(); err != nil {
		t.Fatal(err)
	}
	if forwarded != 0 || m.replica.EndedView() {
		t.Fatalf("it forwarded %d while it leads", forwarded)
	}
	later := time.Now().Add(time.Minute)
	m.carry(m.replica.Tick(later))
	if m.forward(later); forwarded == 0 {
		t.Error("it ended its view and told nobody of the request")
	}
}
