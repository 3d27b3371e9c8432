package coordinator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// silence is everybody else: links that lead nowhere and no proxies.
type silence struct{}

func (silence) RequestLapse([]byte)                                {}
func (silence) Broadcast(*wire.PeerFrame)                          {}
func (silence) Tell([]string, *wire.PeerFrame)                     {}
func (silence) Send(signalbox.Identity, *wire.GatewayFrame) bool   { return false }
func (silence) SendAll(*wire.GatewayFrame)                         {}
func (silence) ProposeTo(context.Context, signalbox.Request) error { return signalbox.ErrUnavailable }
func (silence) Set(resource.Service) error                         { return nil }
func (silence) Proxies() []control.Proxy                           { return nil }
func (silence) Behind(string, uint64) []string                     { return nil }

// alone returns a coordinator without a network around it.
func alone(t *testing.T, dir string) *Coordinator {
	c, _ := aloneWith(t, dir)
	return c
}

// aloneWith is alone with the voter that decides its log, where these instances may
// be enrolled: whoever made the proof.
func aloneWith(t *testing.T, dir string, may ...signalbox.Instance) (*Coordinator, *journal.Voter) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := signature.NewList([]signature.Voter{{Name: "east-1", PublicKey: public}}, 1, private)
	if err != nil {
		t.Fatal(err)
	}
	trust := rpc.Trust{Cluster: "test", Quorum: list}
	j, err := journal.Open(dir, trust, func(proof []byte) (signalbox.Instance, error) {
		for _, in := range may {
			if bytes.Contains(proof, in.PublicKey) {
				return in, nil
			}
		}
		return signalbox.Instance{}, signalbox.ErrUntrusted
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	c, err := New(Options{
		Cluster: "test", Gateway: "east-1", DataCenter: "east", Trust: trust, Journal: j, Links: silence{}, Proxies: silence{},
		Events: api.NewEvents("test", 8), Logger: zerolog.Nop(),
		Services: []Service{{Name: "orders", Protocol: resource.HTTP, DataCenters: []signalbox.DataCenter{"east", "west"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, journal.NewVoter(j, list, 1, "east-1", private, time.Now)
}

// TestEndsUnderAFlood: a coordinator ends while sessions go on posting and
// writes to the journal still want to be told as done; whoever posts is let go.
func TestEndsUnderAFlood(t *testing.T) {
	c := alone(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if err := c.ask(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	var posters sync.WaitGroup
	for range 4 {
		posters.Go(func() {
			for c.post(func() {}) {
			}
		})
	}
	for range 1000 {
		c.later(func() error { c.post(func() {}); return nil })
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the coordinator does not end")
	}
	posters.Wait()
	if err := c.ask(context.Background(), func() {}); err == nil {
		t.Error("it answers after its end")
	}
}

// TestForgetsStrangers: of identities that the log does not know nothing is kept
// once their sessions have ended: new keys at every start do not fill the memory.
func TestForgetsStrangers(t *testing.T) {
	c := alone(t, t.TempDir())
	s := c.services["orders"]
	for n := range 100 {
		id := signalbox.Identity(time.Duration(n).String())
		in := signalbox.Instance{Service: "orders", DataCenter: "east", Name: "e1", Identity: id}
		if err := c.checkIncarnation(in, start{2, "a"}); err != nil {
			t.Fatal(err)
		}
		if err := c.checkIncarnation(in, start{1, "b"}); err == nil {
			t.Fatal("an older incarnation is accepted")
		}
		c.learnKey(id, nil)
		c.instanceOf(s, in)
		c.forget(s, id)
	}
	if len(c.heard)+len(c.keys)+len(s.instances)+len(s.admitting) != 0 {
		t.Errorf("%d incarnations, %d keys, %d instances are kept", len(c.heard), len(c.keys), len(s.instances))
	}
}

// desired keeps what the xDS server was last told.
type desired struct {
	silence
	last *resource.Service
}

func (d desired) Set(s resource.Service) error { *d.last = s; return nil }

// TestNoEndpointsOfTheTermBefore: as long as nobody is known to serve the
// certified term, proxies hold it; what served the term before stays under that
// term's name only (rule 7).
func TestNoEndpointsOfTheTermBefore(t *testing.T) {
	c := alone(t, t.TempDir())
	told := desired{last: &resource.Service{}}
	c.opt.Proxies = told
	s := c.services["orders"]
	s.endpoints, s.endpointsTerm, s.released, s.oldest = []resource.Endpoint{{Address: "10.0.0.1", Port: 80}}, 7, 8, 8
	c.publish(s)
	if told.last.RouteTerm != 8 || told.last.CertifiedTerm != 7 || told.last.OldestTerm != 7 {
		t.Errorf("route %d, certified %d, oldest %d; want 8, 7, 7", told.last.RouteTerm, told.last.CertifiedTerm, told.last.OldestTerm)
	}
	s.endpoints, s.endpointsTerm = []resource.Endpoint{{Address: "10.1.0.1", Port: 80}}, 8
	c.publish(s)
	if told.last.CertifiedTerm != 8 || told.last.OldestTerm != 8 {
		t.Errorf("certified %d, oldest %d; want 8", told.last.CertifiedTerm, told.last.OldestTerm)
	}
}
