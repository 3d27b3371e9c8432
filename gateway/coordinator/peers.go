package coordinator

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

func idBytes(id signalbox.Identity) []byte { return rpc.IdentityToBytes(id) }

// maxList bounds the lists in a peer's frame.
const maxList = 16384

// PeerUp implements session.Handler: the peer is told everything that this
// gateway knows and the log does not.
func (c *Coordinator) PeerUp(gateway string) []*wire.PeerFrame {
	var frames []*wire.PeerFrame
	ran := make(chan struct{})
	if !c.post(func() { frames = c.everything(gateway); close(ran) }) {
		return nil
	}
	select {
	case <-ran:
	case <-c.done:
	}
	return frames
}

func (c *Coordinator) everything(gateway string) []*wire.PeerFrame {
	c.peersUp[gateway] = true
	out := []*wire.PeerFrame{c.introduce()}
	view := &wire.SiteView{DataCenter: string(c.opt.DataCenter), Proxies: c.localProxies(), AllProxies: true}
	for _, s := range c.services {
		if cert := s.machine.Certificate(); cert != nil {
			out = append(out, &wire.PeerFrame{Kind: &wire.PeerFrame_Certificate{Certificate: cert.Raw}})
		}
		for _, e := range s.machine.Statements() {
			out = append(out, &wire.PeerFrame{Kind: &wire.PeerFrame_Statement{Statement: e.Envelope}})
		}
		for _, i := range s.instances {
			if i.served.Envelope != nil && i.served.Term == certifiedTerm(s) {
				out = append(out, &wire.PeerFrame{Kind: &wire.PeerFrame_Statement{Statement: i.served.Envelope}})
			}
		}
		for _, h := range s.machine.OwnHolds() {
			out = append(out, heldFrame(s.conf.Name, h))
		}
		for _, i := range s.instances {
			if i.local {
				view.Instances = append(view.Instances, c.wireStatus(i))
			}
		}
		c.step(s, handover.PeerChanged{Gateway: gateway, Up: true})
	}
	return append(out, split(view)...)
}

// maxView is the largest view in one frame, in bytes; rpc.MaxMessage is what a
// peer accepts.
const maxView = rpc.MaxMessage / 2

// split makes frames of a view that each fit. The first one says that it lists
// all proxies, those after it add to that.
func split(view *wire.SiteView) []*wire.PeerFrame {
	var out []*wire.PeerFrame
	var part *wire.SiteView
	size := 0
	room := func(m proto.Message) {
		n := proto.Size(m) + 8
		if part == nil || size+n > maxView {
			part = &wire.SiteView{DataCenter: view.GetDataCenter(), AllProxies: view.GetAllProxies() && len(out) == 0}
			out = append(out, &wire.PeerFrame{Kind: &wire.PeerFrame_View{View: part}})
			size = 0
		}
		size += n
	}
	if view.GetAllProxies() {
		room(&wire.SiteView{})
	}
	for _, i := range view.GetInstances() {
		room(i)
		part.Instances = append(part.Instances, i)
	}
	for _, p := range view.GetProxies() {
		room(p)
		part.Proxies = append(part.Proxies, p)
	}
	return out
}

// PeerDown implements session.Handler.
func (c *Coordinator) PeerDown(gateway string) {
	c.post(func() {
		c.peersUp[gateway] = false
		delete(c.proxies, gateway)
		delete(c.configs, gateway)
		for _, s := range c.services {
			for _, i := range s.instances {
				if v := i.views[gateway]; v != nil && v.silent.IsZero() {
					v.silent = c.opt.Now()
					c.reachableChanged(s, i)
				}
			}
			c.step(s, handover.PeerChanged{Gateway: gateway, Up: false})
		}
		c.opt.Logger.Warn().Str("peer", gateway).Msg("gateway cannot be reached")
	})
}

// PeerFrame implements session.Handler.
func (c *Coordinator) PeerFrame(gateway string, frame *wire.PeerFrame) {
	switch k := frame.Kind.(type) {
	case *wire.PeerFrame_Statement:
		c.peerStatement(k.Statement, c.seenAt(frame))
	case *wire.PeerFrame_Silence:
		c.post(func() { c.peerSilence(gateway, k.Silence) })
	case *wire.PeerFrame_Share:
		c.post(func() { c.peerShare(k.Share) })
	case *wire.PeerFrame_Hello:
		c.post(func() { c.peerConfigured(gateway, k.Hello.GetServices()) })
	case *wire.PeerFrame_Certificate:
		c.Certificate(k.Certificate)
	case *wire.PeerFrame_Held:
		c.peerHeld(gateway, k.Held, c.seenAt(frame))
	case *wire.PeerFrame_Prepared:
		c.peerPrepared(gateway, k.Prepared)
	case *wire.PeerFrame_View:
		if len(k.View.GetInstances()) <= maxList && len(k.View.GetProxies()) <= maxList {
			c.post(func() { c.peerView(gateway, k.View) })
		}
	case *wire.PeerFrame_AttestedStart:
		c.post(func() { c.peerStart(k.AttestedStart) })
	case *wire.PeerFrame_Prepare:
		c.peerPrepare(k.Prepare)
	case *wire.PeerFrame_GiveUp:
		block, ok := digestOf(k.GiveUp.GetBlock())
		s := c.services[signalbox.Service(k.GiveUp.GetService())]
		if ok && s != nil {
			problem := clip(k.GiveUp.GetProblem(), signalbox.MaxReason)
			c.post(func() { c.step(s, handover.GiveUp{Block: block, Problem: problem}) })
		}
	}
}

// maxSeen bounds how old what is passed on can be, for a peer's clock.
const maxSeen = time.Minute

// seenAt is when a peer learned what it passes on, by its clock, where that can be.
func (c *Coordinator) seenAt(f *wire.PeerFrame) time.Time {
	now := c.opt.Now()
	at := time.Unix(0, f.GetSeenUnixNano())
	if f.GetSeenUnixNano() == 0 || at.After(now) || now.Sub(at) > maxSeen {
		return now
	}
	return at
}

func (c *Coordinator) peerPrepared(gateway string, f *wire.Prepared) {
	block, ok := digestOf(f.GetBlock())
	if s := c.services[signalbox.Service(f.GetService())]; ok && s != nil {
		c.post(func() { c.step(s, handover.Prepared{Gateway: gateway, Block: block}) })
	}
}

func digestOf(b []byte) (signalbox.Digest, bool) {
	if len(b) != len(signalbox.Digest{}) {
		return signalbox.Digest{}, false
	}
	return signalbox.Digest(b), true
}

// Certificate takes a certificate in, verified.
func (c *Coordinator) Certificate(raw []byte) {
	if _, ok := c.certificates.get(raw); ok {
		return // taken in before
	}
	cert, err := rpc.OpenCertificate(c.opt.Trust, raw)
	if err != nil {
		c.opt.Metrics.refusedCertificate()
		c.opt.Logger.Warn().Err(err).Msg("refused certificate")
		return
	}
	c.certificates.put(raw, struct{}{})
	s := c.services[cert.Service]
	if s == nil {
		return
	}
	c.post(func() {
		c.step(s, handover.Certified{Certificate: cert})
		c.refresh(s)
	})
}

func (c *Coordinator) peerHeld(gateway string, f *wire.Held, seen time.Time) {
	block, ok := digestOf(f.GetBlock())
	s := c.services[signalbox.Service(f.GetService())]
	if !ok || s == nil || len(f.GetProxies()) > maxList {
		return
	}
	h := handover.Held{Gateway: gateway, Block: block, Complete: f.GetComplete(), Final: f.GetFinal()}
	for _, p := range f.GetProxies() {
		h.Proxies = append(h.Proxies, handover.ProxyHold{ID: p.GetId(), Acknowledged: p.GetAcknowledged(), Problem: p.GetProblem()})
	}
	c.post(func() {
		if r := s.records[block]; r != nil {
			r.heldBy(h, c.opt.Peers[gateway], seen)
		}
		c.step(s, h)
	})
}

// peerView takes in what a peer sees of its data center.
func (c *Coordinator) peerView(gateway string, w *wire.SiteView) {
	dc, ok := c.opt.Peers[gateway]
	if !ok || string(dc) != w.GetDataCenter() {
		return
	}
	if w.GetAllProxies() {
		c.takeProxies(gateway, dc, nil)
	}
	c.addProxies(gateway, dc, w.GetProxies())
	for _, st := range w.GetInstances() {
		s := c.services[signalbox.Service(st.GetService())]
		id, err := rpc.IdentityFromBytes(st.GetIdentity())
		if s == nil || err != nil || !bounded(st) {
			continue
		}
		i := c.instanceByID(s, id)
		if i == nil || i.DataCenter != dc {
			continue
		}
		c.sawIncarnation(id, start{st.GetIncarnation(), string(st.GetStart())})
		v := i.view(gateway)
		v.status = st
		if v.at = time.Unix(0, st.GetHeardUnixNano()); v.at.After(c.opt.Now()) {
			v.at = c.opt.Now() // its clock is ahead
		}
		before := i.reachable()
		switch {
		case st.GetState() != stateSilent:
			v.silent = noTime
		case v.silent.IsZero():
			v.silent = c.opt.Now()
		}
		if i.reachable() != before {
			c.reachableChanged(s, i)
		}
		c.heardStatus(s, i, v)
		c.refresh(s)
	}
}

// reachableChanged tells the machine of an instance of this data center that
// another gateway has, or lost, a session with.
func (c *Coordinator) reachableChanged(s *service, i *instance) {
	if i.DataCenter == c.opt.DataCenter {
		c.step(s, handover.AgentChanged{Identity: i.Identity, Up: i.reachable()})
	}
}

// event publishes a line for whoever watches.
func (c *Coordinator) event(s *service, kind, who, detail string) {
	c.eventAt(c.opt.Now(), s, kind, who, detail)
}

func (c *Coordinator) eventAt(at time.Time, s *service, kind, who, detail string) {
	e := newEvent(at, kind, string(s.conf.Name), who, detail)
	e.Gateway, e.DataCenter = c.opt.Gateway, string(c.opt.DataCenter)
	if newest, open := s.machine.Open(); open {
		h := newest.Handover(s.conf.Name)
		e.Handover, e.Term = h.ID, uint64(h.Term)
		if r := s.records[newest.Digest]; r != nil {
			e.Phase = string(r.phaseAt(at))
			r.line(e)
		}
	}
	c.opt.Events.Publish(e)
}
