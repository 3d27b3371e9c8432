package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const (
	// prepareWait bounds how long a switch waits for the drivers to prepare;
	// nothing is interrupted meanwhile.
	prepareWait = 60 * time.Second
	// prepareLook is how often it is looked whether they have.
	prepareLook = 20 * time.Millisecond
)

// prepare has the drivers of a planned handover prepare it, outside of the
// interruption, and waits for those that have something to prepare. It reports
// whether anybody had: the plan may be old then. Who does not answer is gone on
// without: to prepare is to be quick, nothing more. Whoever is to step down is told
// who comes, whether its driver prepares or not.
func (c *Coordinator) prepare(ctx context.Context, s *service, p api.Plan) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareWait)
	defer cancel()
	var waits []signalbox.Identity
	id := uint64(c.opt.Now().UnixNano())
	err := c.ask(ctx, func() {
		m := &wire.Prepare{Service: p.Service, Term: p.Term, Id: id}
		collect := func(members []api.Member, all bool) (out [][]byte) {
			for _, member := range members {
				i := s.instances[signalbox.Identity(member.Identity)]
				if i == nil || !i.reachable() {
					continue
				}
				prepares := i.newest().status.GetPrepares()
				if prepares {
					waits = append(waits, i.Identity)
				}
				if prepares || all {
					out = append(out, rpc.IdentityToBytes(i.Identity))
				}
			}
			return out
		}
		m.StepDown, m.Promote = collect(p.Roster, true), collect(p.Incoming, false)
		for _, member := range p.Incoming {
			if i := s.instances[signalbox.Identity(member.Identity)]; i != nil {
				m.Incoming = append(m.Incoming, &wire.Incoming{Identity: rpc.IdentityToBytes(i.Identity), Name: i.Name, Address: i.address})
			}
		}
		if len(m.StepDown)+len(m.Promote) == 0 {
			return
		}
		if len(waits) > 0 {
			c.event(s, eventInstance, p.Service, fmt.Sprintf("%d instances prepare the switch to %s", len(waits), p.To))
		}
		c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_Prepare{Prepare: m}})
		c.tellPrepare(s, m)
	})
	if err != nil || len(waits) == 0 {
		return false, err
	}
	look := time.NewTicker(prepareLook)
	defer look.Stop()
	for {
		left := 0
		err := c.ask(ctx, func() {
			for _, other := range waits {
				if i := s.instances[other]; i != nil && i.reachable() && i.newest().status.GetPrepared() != id {
					left++
				}
			}
		})
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return true, nil
		case err != nil:
			return true, err
		case left == 0:
			return true, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return true, nil
			}
			return true, ctx.Err()
		}
	}
}

// tellPrepare passes a preparation on to the instances with a session here.
func (c *Coordinator) tellPrepare(s *service, m *wire.Prepare) {
	frame := &wire.GatewayFrame{Kind: &wire.GatewayFrame_Prepare{Prepare: m}}
	for _, list := range [][][]byte{m.GetStepDown(), m.GetPromote()} {
		for _, raw := range list {
			if id, err := rpc.IdentityFromBytes(raw); err == nil {
				if i := s.instances[id]; i != nil && i.local {
					c.opt.Links.Send(id, frame)
				}
			}
		}
	}
}

// peerPrepare takes a peer's preparation.
func (c *Coordinator) peerPrepare(m *wire.Prepare) {
	s := c.services[signalbox.Service(m.GetService())]
	if s == nil || len(m.GetStepDown())+len(m.GetPromote()) > 2*signalbox.MaxRoster || len(m.GetIncoming()) > signalbox.MaxRoster {
		return
	}
	c.post(func() { c.tellPrepare(s, m) })
}

// servings are the words of those who serve a certificate's term, for who
// follows them.
func (c *Coordinator) servings(s *service, cert *signalbox.Certificate) (out []*wire.Serving) {
	for _, i := range s.instances {
		if i.served.Term != cert.Term || i.served.Block != cert.Block.Digest {
			continue
		}
		m := &wire.Serving{Statement: i.served.Envelope, PublicKey: i.PublicKey}
		c.opt.Journal.View(func(l *handover.Ledger) {
			if st := l.Service(s.conf.Name); st != nil && st.Term() == cert.Term && st.Admissions[i.Identity] != nil {
				m.Admission = st.Admissions[i.Identity].Raw
			}
		})
		out = append(out, m)
	}
	return out
}

// tellFollowers tells the local instances that follow whom to follow now.
func (c *Coordinator) tellFollowers(s *service) {
	for id, i := range s.instances {
		if v := i.views[c.opt.Gateway]; i.local && v != nil && v.status.GetFollows() {
			c.grant(s, id)
		}
	}
}

// named are the problems that drivers name, of all who take part in a handover,
// and those of them because of which a master would refuse to step down.
func (c *Coordinator) named(s *service, to signalbox.DataCenter) (bad, refuse []string) {
	ids := c.candidates(s, to)
	c.opt.Journal.View(func(l *handover.Ledger) {
		for _, e := range l.Roster(s.conf.Name, to) {
			ids = append(ids, e.Identity)
		}
	})
	for _, id := range ids {
		i := s.instances[id]
		if i == nil || !i.reachable() {
			continue
		}
		for _, p := range i.newest().status.GetProblems() {
			text := fmt.Sprintf("%s: %s: %s", i.Name, p.GetName(), p.GetWhat())
			if p.GetDo() != "" {
				text += " (" + p.GetDo() + ")"
			}
			if p.GetRefuses() && i.DataCenter != to {
				refuse = append(refuse, text)
			} else {
				bad = append(bad, text)
			}
		}
	}
	sort.Strings(bad)
	return bad, refuse
}

// problemViews are the problems that an instance's driver names.
func problemViews(st *wire.InstanceStatus) (out []api.NamedProblem) {
	for _, p := range st.GetProblems() {
		out = append(out, api.NamedProblem{Name: p.GetName(), What: p.GetWhat(), Do: p.GetDo(), Refuses: p.GetRefuses()})
	}
	return out
}
