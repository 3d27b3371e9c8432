package coordinator

import (
	"bytes"
	"fmt"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/control"
)

// proxyView is a proxy as a gateway last told of it.
type proxyView struct {
	state   *wire.ProxyState
	gateway string
	dc      signalbox.DataCenter
}

// ProxyEvent takes what the xDS server observed. It may block.
func (c *Coordinator) ProxyEvent(e control.Event) {
	c.post(func() {
		switch e := e.(type) {
		case control.RouteAcknowledged:
			c.routeAcknowledged(e)
		case control.Rejected:
			c.opt.Logger.Warn().Str("proxy", e.Proxy).Str("resource", e.Resource).Str("message", e.Message).Msg("proxy rejected its configuration")
			c.proxiesChanged(fmt.Sprintf("%s rejected %s: %s", e.Proxy, e.Resource, e.Message), e.Proxy)
		case control.ProxyConnected:
			c.proxiesChanged(e.Proxy+" connected", e.Proxy)
		case control.ProxyGone:
			c.proxiesChanged(e.Proxy+" is gone", e.Proxy)
		case control.Overflow:
			c.proxiesChanged("", "")
		}
	})
}

func (c *Coordinator) routeAcknowledged(e control.RouteAcknowledged) {
	s := c.services[signalbox.Service(e.Service)]
	if s == nil {
		return
	}
	newest, open := s.machine.Open()
	if !open || uint64(newest.Handover(s.conf.Name).Term) > e.Term {
		return
	}
	c.event(s, eventProxy, e.Proxy, fmt.Sprintf("acknowledged the route of term %d", e.Term))
	if r := s.records[newest.Digest]; r != nil {
		if row := r.proxy(e.Proxy, c.opt.DataCenter); row.HeldMS == nil {
			row.HeldMS = r.ms(c.opt.Now())
			r.heldAt = later(r.heldAt, c.opt.Now())
		}
	}
	for _, ev := range c.ownHold(s, newest.Digest, false) {
		c.step(s, ev)
	}
}

// proxiesChanged looks again at what every open hold still waits for.
func (c *Coordinator) proxiesChanged(detail, proxy string) {
	for s := range c.busy {
		newest, open := s.machine.Open()
		if !open {
			continue
		}
		if detail != "" {
			c.event(s, eventProxy, proxy, detail)
		}
		for _, ev := range c.ownHold(s, newest.Digest, true) {
			c.step(s, ev)
		}
	}
	c.tellProxies()
}

// ownHold says how far this gateway's proxies are with the hold of a block.
// With words, it also says what the proxies behind have answered; without, that
// is looked at only when nobody is behind: with many services it costs more than
// the hold.
func (c *Coordinator) ownHold(s *service, block signalbox.Digest, words bool) []handover.Event {
	newest, open := s.machine.Open()
	if !open || newest.Digest != block {
		return nil
	}
	term := uint64(newest.Handover(s.conf.Name).Term)
	held := handover.Held{Gateway: c.opt.Gateway, Block: block, Complete: true}
	if behind := c.opt.Proxies.Behind(string(s.conf.Name), term); len(behind) > 0 && !words {
		held.Complete = false
		for _, id := range behind {
			held.Proxies = append(held.Proxies, handover.ProxyHold{ID: id})
		}
		return []handover.Event{held}
	}
	for _, p := range c.opt.Proxies.Proxies() {
		for _, ps := range p.Services {
			if ps.Service != string(s.conf.Name) {
				continue
			}
			h := handover.ProxyHold{ID: p.ID, Acknowledged: ps.Term >= term}
			if ps.Nack != nil {
				h.Problem = ps.Nack.Message
			}
			held.Complete = held.Complete && h.Acknowledged
			held.Proxies = append(held.Proxies, h)
		}
	}
	return []handover.Event{held}
}

// lookAgain asks once for the words of the proxies that are behind in a hold,
// before it is given up because of them: an acknowledgement of another proxy
// has taken their place meanwhile.
func (c *Coordinator) lookAgain(s *service) {
	newest, open := s.machine.Open()
	if !open {
		return
	}
	r := s.records[newest.Digest]
	if r == nil || r.looked || r.holdAt.IsZero() || c.opt.Now().Sub(r.holdAt) < handover.HoldWait/2 {
		return
	}
	r.looked = true
	for _, ev := range c.ownHold(s, newest.Digest, true) {
		c.step(s, ev)
	}
}

func preparedFrame(s signalbox.Service, block signalbox.Digest) *wire.PeerFrame {
	return &wire.PeerFrame{Kind: &wire.PeerFrame_Prepared{Prepared: &wire.Prepared{Service: string(s), Block: block[:]}}}
}

func heldFrame(s signalbox.Service, h handover.Held) *wire.PeerFrame {
	f := &wire.Held{Service: string(s), Block: h.Block[:], Complete: h.Complete, Final: h.Final}
	for _, p := range h.Proxies {
		f.Proxies = append(f.Proxies, &wire.ProxyHold{Id: p.ID, Acknowledged: p.Acknowledged, Problem: clip(p.Problem, signalbox.MaxReason)})
	}
	return &wire.PeerFrame{Kind: &wire.PeerFrame_Held{Held: f}}
}

// localProxies are this gateway's proxies as it tells its peers of them.
func (c *Coordinator) localProxies() []*wire.ProxyState {
	var out []*wire.ProxyState
	for _, p := range c.opt.Proxies.Proxies() {
		ps := &wire.ProxyState{Id: p.ID, Kind: p.Kind, SinceUnixNano: p.Since.UnixNano()}
		for _, sv := range p.Services {
			st := &wire.ProxyServiceState{Service: sv.Service, Term: sv.Term, Pending: sv.Pending}
			if sv.Nack != nil {
				st.Problem = clip(sv.Nack.Message, signalbox.MaxReason)
			}
			for _, l := range sv.Loads {
				if l.Term < sv.Term {
					st.Older += l.InProgress
				}
			}
			ps.Services = append(ps.Services, st)
		}
		out = append(out, ps)
	}
	return out
}

// tellAgain is how often peers are told of the own proxies although nothing
// changed: a peer that was frozen forgets what it heard when its own stream ends,
// while the stream that told it lives on.
const tellAgain = 5 * time.Second

// tellProxies passes on which proxies this gateway has, when that changed, and
// from time to time.
func (c *Coordinator) tellProxies() {
	local := c.localProxies()
	view := &wire.SiteView{DataCenter: string(c.opt.DataCenter), Proxies: local, AllProxies: true}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(view)
	now := c.opt.Now()
	if err != nil || bytes.Equal(raw, c.told) && now.Sub(c.toldAt) < tellAgain {
		return
	}
	c.told, c.toldAt = raw, now
	c.takeProxies(c.opt.Gateway, c.opt.DataCenter, local)
	for _, part := range split(view) {
		c.opt.Links.Broadcast(part)
	}
}

// takeProxies replaces what is known of a gateway's proxies.
func (c *Coordinator) takeProxies(gateway string, dc signalbox.DataCenter, all []*wire.ProxyState) {
	c.proxies[gateway] = map[string]*proxyView{}
	c.addProxies(gateway, dc, all)
}

func (c *Coordinator) addProxies(gateway string, dc signalbox.DataCenter, some []*wire.ProxyState) {
	byID := c.proxies[gateway]
	for _, p := range some {
		if byID != nil && len(byID) < maxList {
			byID[p.GetId()] = &proxyView{state: p, gateway: gateway, dc: dc}
		}
	}
}

// allProxies lists the proxies of all gateways, by data center and id.
func (c *Coordinator) allProxies() []*proxyView {
	c.takeProxies(c.opt.Gateway, c.opt.DataCenter, c.localProxies())
	var out []*proxyView
	for _, byID := range c.proxies {
		for _, p := range byID {
			out = append(out, p)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].dc != out[j].dc {
			return out[i].dc < out[j].dc
		}
		return out[i].state.GetId() < out[j].state.GetId()
	})
	return out
}

func (c *Coordinator) wireStatus(i *instance) *wire.InstanceStatus {
	v := i.view(c.opt.Gateway)
	st := &wire.InstanceStatus{
		Identity: idBytes(i.Identity), Service: string(i.Service), Name: i.Name, Start: v.status.GetStart(),
		State: v.status.GetState(), Term: v.status.GetTerm(), Floor: v.status.GetFloor(), Admission: v.status.GetAdmission(),
		InFlight: v.status.GetInFlight(), Ready: v.status.GetReady(), Problem: v.status.GetProblem(),
		Address: i.address, Driver: v.status.GetDriver(), Version: v.status.GetVersion(), Incarnation: v.status.GetIncarnation(),
		Problems: v.status.GetProblems(), LagNano: v.status.GetLagNano(), LagBytes: v.status.GetLagBytes(),
		Prepares: v.status.GetPrepares(), Prepared: v.status.GetPrepared(), Follows: v.status.GetFollows(),
		Expected: v.status.GetExpected(), Lost: v.status.GetLost(),
	}
	if !v.at.IsZero() {
		st.HeardUnixNano = v.at.UnixNano()
	}
	if !i.local {
		st.State = stateSilent
	}
	return st
}

// sinceMS is a duration in milliseconds with microseconds after the point.
func sinceMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
