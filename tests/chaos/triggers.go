package chaos

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

const (
	// stopWithin bounds an orderly stop.
	stopWithin = 30 * time.Second
	// away is how many blocks a gateway misses, snapshots aside: the log reaches
	// back to the one before the newest.
	away = 7
	// awayFor is how long the acks of instances that are down are waited for.
	awayFor = 500 * time.Millisecond
)

// pulled is what a trigger works with.
type pulled struct {
	result  *Result
	which   int
	reached func() error
}

// pull brings a process to the point.
func (f Failpoint) pull(ctx context.Context, s *demo.Site, p *pulled) error {
	switch f.by {
	case bySwitch:
		return p.move(ctx, s, "chaos: to be killed at "+f.Name, false)
	case byGiveUp:
		// The handover may be faster than the refuse.
		return demo.Await(ctx, f.Name+" to be reached", func(ctx context.Context) error {
			return errors.Join(p.move(ctx, s, "chaos: to be killed at "+f.Name, true), p.reached())
		})
	case byFailover:
		return p.failOver(ctx, s)
	case byStop:
		names, err := masters(ctx, s) // only they have something to leave
		if err != nil {
			return err
		}
		return s.Restart(ctx, names[p.which%len(names)], stopWithin)
	case byRestart:
		agents := Names(s, Agent)
		return s.Kill(agents[p.which%len(agents)])
	case byNewKey:
		return p.newKey(ctx, s)
	case byAttest:
		return p.attest(ctx, s)
	case byStart:
		gateways := Names(s, Gateway)
		return s.Kill(gateways[p.which%len(gateways)])
	case byAbsence:
		return p.absent(ctx, s)
	case byLoss:
		return p.lose(ctx, s)
	}
	return fmt.Errorf("nothing brings a running site to %s", f.Name)
}

// masters are the instances of the master.
func masters(ctx context.Context, s *demo.Site) (names []string, err error) {
	service, err := s.API().Service(ctx, demo.Service)
	for _, in := range s.Instances() {
		if err == nil && in.DataCenter == service.Master {
			names = append(names, in.Name)
		}
	}
	return names, err
}

// other is where the service is not.
func other(master string) string {
	if master == demo.West {
		return demo.East
	}
	return demo.West
}

// move switches, gives up where that is asked for, and follows to the end.
func (p *pulled) move(ctx context.Context, s *demo.Site, why string, giveUp bool) error {
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	h, err := p.begin(ctx, s, other(service.Master), why)
	if h.ID == "" || err != nil {
		return err // without both, who is master in the end shows later
	}
	if giveUp {
		_, err := s.API().GiveUp(ctx, client.NewKey(), h.ID, api.GiveUpRequest{Reason: why})
		if err != nil && !errors.Is(err, signalbox.ErrRefused) && !errors.Is(err, signalbox.ErrUnknown) {
			return err
		}
	}
	return p.end(ctx, s, h.ID)
}

// begin orders a switch until it is taken, or the point is reached while it is agreed on.
func (p *pulled) begin(ctx context.Context, s *demo.Site, to, why string) (h api.Handover, err error) {
	key := client.NewKey() // the same order each time
	var refused error
	waited := demo.Await(ctx, "a switch to be possible", func(ctx context.Context) error {
		h, err = s.API().Switch(ctx, key, api.SwitchRequest{Service: demo.Service, To: to, Reason: why})
		if !errors.Is(err, signalbox.ErrUnavailable) && !errors.Is(err, signalbox.ErrNotReady) {
			refused = err
			return nil
		}
		if p.reached() == nil {
			return nil
		}
		return err
	})
	return h, errors.Join(refused, waited)
}

// end follows a handover to its end, and has every gateway tell the same of it.
func (p *pulled) end(ctx context.Context, s *demo.Site, id string) error {
	if err := p.result.follow(ctx, s, id); err != nil {
		return err
	}
	return p.result.once(ctx, s)
}

// follower is a gateway that is not the first of east: what the others decide goes
// on without it.
func (p *pulled) follower(s *demo.Site) string {
	names := slices.DeleteFunc(Names(s, Gateway), func(name string) bool { return name == s.GatewayIn(demo.East) })
	return names[p.which%len(names)]
}

// absent keeps a gateway down for longer than the log reaches back.
func (p *pulled) absent(ctx context.Context, s *demo.Site) error {
	name := p.follower(s)
	err := s.Down(name, syscall.SIGKILL)
	for n := 0; n < away && err == nil; n++ {
		err = demo.Await(ctx, "a block without "+name, func(ctx context.Context) error { return pauseOrResume(ctx, s, n%2 == 0) })
	}
	if err := errors.Join(err, s.Up(name)); err != nil {
		return err
	}
	return demo.Await(ctx, name+" to have caught up", func(ctx context.Context) error {
		v, err := s.ClientOf(name).Service(ctx, demo.Service)
		if err == nil && v.Paused == nil { // as it was when it went
			err = errors.New("it does not know that the service is paused")
		}
		if err != nil {
			return err
		}
		return errors.Join(p.reached(), pauseOrResume(ctx, s, false))
	})
}

// pauseOrResume fills the log: nobody but voters is needed for it.
func pauseOrResume(ctx context.Context, s *demo.Site, pause bool) error {
	m := signalbox.Mandate{Verb: signalbox.VerbResume, Service: demo.Service, Reason: "chaos: while a gateway is away"}
	if pause {
		m.Verb, m.Until = signalbox.VerbPause, time.Now().Add(time.Hour)
	}
	proof, err := sign(s, m)
	if err != nil {
		return err
	}
	if pause {
		_, err = s.API().Pause(ctx, client.NewKey(), demo.Service, api.PauseRequest{ForMS: time.Hour.Milliseconds(), Reason: m.Reason, Mandate: proof})
	} else {
		_, err = s.API().Resume(ctx, client.NewKey(), demo.Service, api.ReasonRequest{Reason: m.Reason, Mandate: proof})
	}
	return err
}

// sign has the site's operator sign.
func sign(s *demo.Site, m signalbox.Mandate) ([]byte, error) {
	b, err := identity.Load(s.OperatorBundle())
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(b.Files().Certificate, b.Files().Key)
	if err != nil {
		return nil, err
	}
	m.Operator, m.At = b.Self.Name, time.Now()
	return rpc.SealMandate(b.Cluster.Name, m, b.Operator, pair)
}

// lose has a voter start without anything that it ever wrote. It is the same one
// each time: two of three that do not remember are more than three voters stand.
func (p *pulled) lose(ctx context.Context, s *demo.Site) error {
	name := s.GatewayIn(demo.North)
	if err := errors.Join(s.Down(name, syscall.SIGKILL), os.RemoveAll(s.StatePath(name)), s.Up(name)); err != nil {
		return err
	}
	return demo.Await(ctx, name+" to die and to come back", func(ctx context.Context) error {
		if _, err := s.ClientOf(name).Voters(ctx); err != nil { // has it make a key for the next voters
			return err
		}
		if p.reached() != nil {
			// It waits for two slots to be decided, and may ask for that twice in ten minutes only.
			return errors.Join(pauseOrResume(ctx, s, true), pauseOrResume(ctx, s, false), p.reached())
		}
		return s.GatewayReady(ctx, name)
	})
}

// failOver has voters promise that they grant nothing below the new term: nobody
// but leases speaks for the master.
func (p *pulled) failOver(ctx context.Context, s *demo.Site) error {
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	var down []string
	for _, in := range s.Instances() {
		if in.DataCenter == service.Master {
			down = append(down, in.Name)
			if in.Agent != "" {
				down = append(down, in.Agent)
			}
		}
	}
	for _, name := range down {
		if err := s.Down(name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	var id string
	err = demo.Await(ctx, "the failover to be taken", func(ctx context.Context) error {
		reply, err := s.API().Failover(ctx, client.NewKey(), api.FailoverRequest{
			Service: demo.Service, To: other(service.Master), Reason: "chaos: the instances are down", HoldBudgetMS: awayFor.Milliseconds(),
		})
		if err == nil {
			id = reply.Handover.ID
		}
		return err
	})
	if err == nil {
		err = p.end(ctx, s, id)
	}
	for _, name := range down {
		err = errors.Join(err, s.Up(name))
	}
	return err
}

// newKey has an agent beside its instance start without its state: where the
// instance serves nothing, it owes nothing.
func (p *pulled) newKey(ctx context.Context, s *demo.Site) error {
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	if service.Master != demo.East { // agents of their own stand in west only
		if err := p.move(ctx, s, "chaos: to the library", false); err != nil {
			return err
		}
	}
	agents := Names(s, Agent)
	name := agents[p.which%len(agents)]
	return errors.Join(s.Down(name, syscall.SIGKILL), os.RemoveAll(s.StatePath(name)), s.Up(name))
}

// attest starts an instance of the master while no voter is there.
func (p *pulled) attest(ctx context.Context, s *demo.Site) error {
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	if service.Master != demo.East { // where instance and agent are one process
		if err := p.move(ctx, s, "chaos: to the library", false); err != nil {
			return err
		}
	}
	voter, others := s.GatewayIn(demo.East), slices.DeleteFunc(Names(s, Gateway), func(name string) bool { return name == s.GatewayIn(demo.East) })
	names, err := masters(ctx, s)
	if err != nil {
		return err
	}
	name := names[p.which%len(names)]
	if err := errors.Join(s.Down(voter, syscall.SIGKILL), s.Kill(name)); err != nil {
		return err
	}
	err = demo.Await(ctx, name+" to be started on a person's word", func(ctx context.Context) error {
		if p.reached() == nil {
			return nil
		}
		return errors.Join(startAlone(ctx, s, s.ClientOf(others[0]), name), p.reached())
	})
	return errors.Join(err, s.Up(voter))
}

// startAlone has the site's operator sign that an instance may start without voters.
func startAlone(ctx context.Context, s *demo.Site, c *client.Client, name string) error {
	list, err := c.Instances(ctx, demo.Service)
	if err != nil {
		return err
	}
	for i := range list {
		in := &list[i]
		if in.Name != name || in.Challenge == "" {
			continue
		}
		of, err := hex.DecodeString(in.Challenge)
		if err != nil || len(of) != len(signalbox.Digest{}) {
			return fmt.Errorf("challenge %q: %w", in.Challenge, err)
		}
		mandate, err := sign(s, signalbox.Mandate{
			Verb: signalbox.VerbStart, Service: demo.Service, ID: in.Identity, Term: signalbox.Term(in.Term), Of: signalbox.Digest(of),
			Reason: "chaos: no voter is there",
		})
		if err != nil {
			return err
		}
		_, err = c.Start(ctx, client.NewKey(), demo.Service, in.Identity, api.StartRequest{Mandate: mandate})
		return err
	}
	return fmt.Errorf("%s waits for no voters", name)
}
