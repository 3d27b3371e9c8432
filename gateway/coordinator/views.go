package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// Services implements api.Viewer.
func (c *Coordinator) Services(ctx context.Context) (out []api.Service, err error) {
	err = c.ask(ctx, func() {
		proxies := c.allProxies()
		for _, s := range c.services {
			out = append(out, c.serviceView(s, proxies))
		}
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, err
}

func (c *Coordinator) serviceView(s *service, proxies []*proxyView) api.Service {
	v := api.Service{
		Name: string(s.conf.Name), Protocol: string(s.conf.Protocol), State: api.StateUnmanaged,
		HoldBudgetMS: s.conf.HoldBudget.Milliseconds(),
	}
	cert := s.machine.Certificate()
	if cert != nil {
		v.State, v.Master, v.Term = api.StateSteady, string(cert.DataCenter()), uint64(cert.Term)
		if !s.since.IsZero() {
			since := s.since
			v.Since = &since
		}
	}
	if s.conf.Observe {
		v.State = api.StateObserved
	}
	for _, st := range s.machine.Status(c.opt.Now()) {
		v.Handover, v.State, v.Waiting = st.Handover.ID, stateOf(st.Phase), c.waiting(s, st)
	}
	for _, dc := range s.conf.DataCenters {
		v.DataCenters = append(v.DataCenters, c.siteView(s, dc, proxies))
	}
	c.showPeople(s, &v)
	return v
}

// waiting says for whom an open handover waits, in words.
func (c *Coordinator) waiting(s *service, st handover.Status) []string {
	var out []string
	if st.Certified != 0 {
		if st.WaitingFor != "" {
			out = append(out, st.WaitingFor)
		}
		return out
	}
	for _, a := range st.Acks {
		if a.Evidence != "" {
			continue
		}
		text := a.Name + ": "
		i := s.instances[a.Identity]
		switch {
		case i == nil || !i.reachable():
			text += "silent; its agent cannot be reached. Silence is no evidence: start it again, or see signalbox instance attest and signalbox failover"
		case a.Drained:
			text += "drained, its ack is due"
		default:
			text += fmt.Sprintf("draining %d requests", i.newest().status.GetInFlight())
		}
		out = append(out, text)
	}
	return out
}

func (c *Coordinator) siteView(s *service, dc signalbox.DataCenter, proxies []*proxyView) api.ServiceSite {
	v := api.ServiceSite{DataCenter: string(dc)}
	cert := s.machine.Certificate()
	v.Master = cert != nil && cert.DataCenter() == dc
	for _, i := range s.instances {
		if i.DataCenter != dc {
			continue
		}
		v.Instances++
		n := i.newest()
		if n == nil || !i.reachable() {
			continue
		}
		v.InFlight += n.status.GetInFlight()
		if n.status.GetReady() {
			v.Ready++
		}
		if cert != nil && i.serves(cert.Term) {
			v.Serving++
		}
	}
	for _, p := range proxies {
		for _, ps := range p.state.GetServices() {
			if p.dc == dc && ps.GetService() == string(s.conf.Name) {
				v.Proxies++
				if cert != nil && ps.GetTerm() >= uint64(cert.Term) {
					v.Synced++
				}
			}
		}
	}
	if cert != nil && !v.Master {
		for _, check := range c.looked(s, api.Order{Service: string(s.conf.Name), To: string(dc)}, proxies) {
			if check.Blocking && !check.OK {
				v.Problems = append(v.Problems, check.Detail+"; "+check.Do)
			}
		}
		v.Target = len(v.Problems) == 0
	}
	return v
}

// Instances implements api.Viewer.
func (c *Coordinator) Instances(ctx context.Context, name string) (out []api.Instance, err error) {
	if name != "" && c.services[signalbox.Service(name)] == nil {
		return nil, fmt.Errorf("%w: service %q is not configured", signalbox.ErrUnknown, name)
	}
	err = c.ask(ctx, func() {
		for _, s := range c.services {
			if name == "" || string(s.conf.Name) == name {
				for _, i := range s.instances {
					out = append(out, c.instanceView(s, i))
				}
			}
		}
	})
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Service != b.Service {
			return a.Service < b.Service
		}
		if a.DataCenter != b.DataCenter {
			return a.DataCenter < b.DataCenter
		}
		return a.Name < b.Name
	})
	return out, err
}

func (c *Coordinator) instanceView(s *service, i *instance) api.Instance {
	v := api.Instance{
		Name: i.Name, Service: string(i.Service), DataCenter: string(i.DataCenter), Identity: string(i.Identity),
		Address: i.address, State: stateSilent, SilentMS: -1,
	}
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil {
			var h handover.Holder
			h, v.Outstanding = st.Outstanding[i.Identity]
			v.Admission = h.Admission
		}
	})
	n := i.newest()
	if n == nil {
		v.Problem = "never heard from since this gateway started"
		return v
	}
	st := n.status
	v.Incarnation, v.Term, v.Floor, v.InFlight = st.GetIncarnation(), st.GetTerm(), st.GetFloor(), st.GetInFlight()
	v.Driver, v.Version, v.Problem = st.GetDriver(), st.GetVersion(), st.GetProblem()
	if v.Challenge = challengeOf(st); !i.reachable() {
		v.Challenge = ""
	}
	v.LagBytes, v.LagMS = st.GetLagBytes(), st.GetLagNano()/int64(time.Millisecond)
	v.Problems = problemViews(st)
	v.ExpectedLoss = expectedView(st.GetExpected())
	at := n.at
	v.LastHeard, v.SilentMS = &at, max(0, c.opt.Now().Sub(at).Milliseconds())
	if i.reachable() {
		v.State, v.Ready = st.GetState(), st.GetReady()
	}
	return v
}

// Proxies implements api.Viewer.
func (c *Coordinator) Proxies(ctx context.Context) (out []api.Proxy, err error) {
	err = c.ask(ctx, func() {
		for _, p := range c.allProxies() {
			since := time.Unix(0, p.state.GetSinceUnixNano())
			v := api.Proxy{
				ID: p.state.GetId(), DataCenter: string(p.dc), Gateway: p.gateway, Kind: p.state.GetKind(),
				Connected: true, ConnectedSince: &since, Routes: []api.ProxyRoute{},
			}
			for _, ps := range p.state.GetServices() {
				older := ps.GetOlder()
				v.Routes = append(v.Routes, api.ProxyRoute{
					Service: ps.GetService(), Term: ps.GetTerm(), Pending: ps.GetPending(), Problem: ps.GetProblem(), Older: &older,
				})
			}
			out = append(out, v)
		}
	})
	return out, err
}

// maxShown is how many of a kind of problem are shown at once.
const maxShown = 8

// logCheck says whether this gateway's log lets it decide. A voter with an empty
// log, or one from a backup, waits for every other gateway first.
func (c *Coordinator) logCheck() api.Check {
	if !c.opt.Journal.Restored() {
		return api.Check{Name: "log", OK: true, Detail: "the log is this gateway's own and whole"}
	}
	missing := c.gatewaysDown()
	sort.Strings(missing)
	waits := "for every other gateway to say how new its log is"
	if len(missing) > 0 {
		waits = "until it has heard from every other gateway: " + strings.Join(missing, "; ")
	}
	return api.Check{
		Name: "log", Detail: "the log is empty or from a backup, and nothing is decided " + waits,
		Do: "start all gateways once: a voter without a log of its own decides only when no other gateway has more",
	}
}

// Health implements api.Viewer.
func (c *Coordinator) Health(ctx context.Context) api.Health {
	h := api.Health{
		Cluster: c.opt.Cluster, Gateway: c.opt.Gateway, DataCenter: string(c.opt.DataCenter), Version: c.opt.Version,
		LogIndex: c.opt.Journal.Index(), Ready: true,
	}
	err := c.ask(ctx, func() {
		for name := range c.opt.Peers {
			check := api.Check{Name: "peer-" + name, OK: c.peersUp[name], Detail: "gateway " + name + " can be reached"}
			if !check.OK {
				check.Detail, check.Do = "gateway "+name+" cannot be reached", "look at its log and at the network between"
			}
			h.Checks = append(h.Checks, check)
		}
		alike := api.Check{Name: "services-alike", OK: true, Detail: "every gateway that can be reached has the services configured alike"}
		if bad := c.allDifferent(); len(bad) > 0 {
			alike.OK, alike.Detail, alike.Do = false, strings.Join(bad[:min(len(bad), maxShown)], "; "), makeAlike
		}
		h.Checks = append(h.Checks, alike, c.logCheck())
	})
	sort.Slice(h.Checks, func(i, j int) bool { return h.Checks[i].Name < h.Checks[j].Name })
	h.Ready = err == nil
	return h
}

// Handover implements api.Historian.
func (c *Coordinator) Handover(ctx context.Context, id string) (v api.Handover, err error) {
	found := false
	if err := c.ask(ctx, func() { v, found = c.openHandover(id) }); err != nil {
		return v, err
	}
	if found {
		return v, nil
	}
	raw, err := c.opt.Journal.Record(id)
	if err != nil {
		return v, c.fromLog(id, &v, err)
	}
	return v, json.Unmarshal(raw, &v)
}

// begun returns an order's handover that the log brought just now: the order was
// given before, here or elsewhere.
func (c *Coordinator) begun(ctx context.Context, id string) (api.Handover, error) {
	if err := c.ask(ctx, func() { c.applyLog() }); err != nil {
		return api.Handover{}, err
	}
	return c.Handover(ctx, id)
}

// fromLog makes a short record from the log where this gateway kept none: it was
// away when the handover ended, or was killed before it had kept one.
func (c *Coordinator) fromLog(id string, v *api.Handover, otherwise error) error {
	var d handover.DecidedHandover
	var known bool
	c.opt.Journal.View(func(l *handover.Ledger) { d, known = l.Decided(id) })
	if !known {
		return otherwise
	}
	*v = c.shortRecord(d)
	return nil
}

// shortRecord is what the log says of a handover; who it was and why only while
// the log has its block.
func (c *Coordinator) shortRecord(d handover.DecidedHandover) api.Handover {
	v := api.Handover{
		ID: d.ID, Service: string(d.Service), From: string(d.From), To: string(d.To), Term: uint64(d.Term), Started: d.At,
		CertifiedTerm: uint64(d.Certified), SupersededBy: d.SupersededBy, Outcome: api.OutcomeOpen, State: api.StatePreparing,
	}
	if !d.Ended.IsZero() {
		ended := d.Ended
		v.Ended, v.State = &ended, api.StateSettled
		switch {
		case d.SupersededBy != "":
			v.Outcome = api.OutcomeSuperseded
		case d.Certified == d.Term:
			v.Outcome = api.OutcomeForward
		default:
			v.Outcome = api.OutcomeFallback
		}
	}
	b, err := c.opt.Journal.Block(d.Index)
	if err != nil {
		return v
	}
	if h := b.Handover(d.Service); h != nil {
		v.FallbackTerm, v.By, v.Reason, v.Allowed = uint64(h.Fallback), h.By, h.Reason, h.Allowed.String()
		v.HoldBudgetMS, v.BreakGlass, v.Signed = h.HoldBudget.Milliseconds(), glassView(h.BreakGlass, h.By), h.Mandate != nil
	}
	var cert *signalbox.Certificate
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(d.Service); st != nil {
			cert = st.Certificate
		}
	})
	if cert != nil && cert.Block.Digest == b.Digest {
		r := record{view: v}
		r.certified(cert)
		v = r.view
	}
	return v
}

// keepMissing keeps the short records of handovers up to a block of the log that
// are over and that this gateway has no record of, so that history lists them.
func (c *Coordinator) keepMissing(to uint64) {
	var over []handover.DecidedHandover
	c.opt.Journal.View(func(l *handover.Ledger) { over = l.Over() })
	for _, d := range over {
		if d.Index <= to {
			c.keepShort(d)
		}
	}
}

func (c *Coordinator) keepShort(d handover.DecidedHandover) {
	s := c.services[d.Service]
	if s == nil || s.recordOf(d.ID) != nil || s.closed[d.ID] != nil {
		return
	}
	if _, err := c.opt.Journal.Record(d.ID); errors.Is(err, signalbox.ErrUnknown) {
		c.putRecord(s, c.shortRecord(d))
	}
}

// adopted keeps an adoption's record: nothing happens in it but its block.
func (c *Coordinator) adopted(id string) {
	var d handover.DecidedHandover
	c.opt.Journal.View(func(l *handover.Ledger) { d, _ = l.Decided(id) })
	if d.ID != "" {
		c.keepShort(d)
	}
}

// putRecord keeps a record that is closed.
func (c *Coordinator) putRecord(s *service, v api.Handover) {
	raw, err := json.Marshal(v)
	if err != nil {
		c.opt.Logger.Error().Err(err).Str("handover", v.ID).Msg("record cannot be encoded")
		return
	}
	s.closed[v.ID] = &v
	c.later(func() error {
		err := c.opt.Journal.PutRecord(v.ID, v.Started, raw)
		c.post(func() { delete(s.closed, v.ID) })
		return err
	})
}

func (c *Coordinator) openHandover(id string) (api.Handover, bool) {
	for _, s := range c.services {
		for _, r := range s.records {
			if r.view.ID != id {
				continue
			}
			v := c.recordView(s, r)
			for _, st := range s.machine.Status(c.opt.Now()) {
				if st.Handover.ID == id {
					v.State, v.Waiting = stateOf(st.Phase), c.waiting(s, st)
				}
			}
			return v, true
		}
		if r := s.closed[id]; r != nil {
			return *r, true
		}
	}
	return api.Handover{}, false
}

// Handovers implements api.Historian.
func (c *Coordinator) Handovers(ctx context.Context, page api.Page) (out []api.Handover, err error) {
	err = c.ask(ctx, func() {
		for _, s := range c.services {
			for _, r := range s.records {
				if page.Service == "" || page.Service == r.view.Service {
					out = append(out, c.recordView(s, r))
				}
			}
			for _, h := range s.closed { // not on the disk yet
				if (page.Service == "" || page.Service == h.Service) && s.recordOf(h.ID) == nil {
					out = append(out, *h)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, h := range out {
		seen[h.ID] = true
	}
	past := page.Before == ""
	if !past {
		out = nil
	}
	err = c.opt.Journal.Records(func(id string, raw []byte) bool {
		if !past {
			past = id == page.Before
			return true
		}
		var h api.Handover
		if json.Unmarshal(raw, &h) == nil && !seen[id] && (page.Service == "" || page.Service == h.Service) {
			h.Acks, h.Promotions, h.Proxies, h.Events, h.Certificate = nil, nil, nil, nil, nil
			out = append(out, h)
		}
		return len(out) < page.Limit
	})
	sort.SliceStable(out, func(i, j int) bool { return out[i].Started.After(out[j].Started) })
	if len(out) > page.Limit {
		out = out[:page.Limit]
	}
	return out, err
}

// Backup implements api.Archivist.
func (c *Coordinator) Backup(_ context.Context, w io.Writer) error { return c.opt.Journal.Backup(w) }
