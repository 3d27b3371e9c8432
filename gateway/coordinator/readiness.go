package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

const (
	// surveyEvery is how often readiness is looked at without being asked, and
	// surveyShare the part of the owner's time that it may take: with very many
	// services and proxies it is looked at more seldom.
	surveyEvery = 5 * time.Second
	surveyShare = 50
	// expiresSoon is how long before its end a certificate is worth a word.
	expiresSoon = 14 * 24 * time.Hour
	// maxNamed is how many are named in one check.
	maxNamed = 8
)

// An Expiry is when somebody's certificate, or an authority's, ends.
type Expiry struct {
	// What names it: "the CA", "gateway/east/east-1".
	What string
	// Kind is ca, own or peer, for metrics.
	Kind     string
	NotAfter time.Time
}

// Readiness implements api.Surveyor.
func (c *Coordinator) Readiness(ctx context.Context, name string) (v api.Readiness, err error) {
	if name != "" && c.services[signalbox.Service(name)] == nil {
		return v, c.unknown(name)
	}
	err = c.ask(ctx, func() { v = c.readiness(name) })
	return v, err
}

func (c *Coordinator) readiness(name string) api.Readiness {
	proxies := c.allProxies()
	v := api.Readiness{Ready: true, Gateway: c.opt.Gateway, At: c.opt.Now(), Checks: c.common()}
	for _, check := range v.Checks {
		v.Ready = v.Ready && (check.OK || !check.Blocking)
	}
	for _, s := range c.byName() {
		if name == "" || string(s.conf.Name) == name {
			sv := c.serviceReadiness(s, proxies)
			v.Ready = v.Ready && (sv.Ready || s.conf.Observe)
			v.Services = append(v.Services, sv)
		}
	}
	return v
}

// byName lists the services in the order of their names.
func (c *Coordinator) byName() (out []*service) {
	for _, s := range c.services {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *service) int { return strings.Compare(string(a.conf.Name), string(b.conf.Name)) })
	return out
}

func (c *Coordinator) serviceReadiness(s *service, proxies []*proxyView) api.ServiceReadiness {
	seen := c.serviceView(s, proxies)
	v := api.ServiceReadiness{Service: seen.Name, State: seen.State, Master: seen.Master, Term: seen.Term}
	for _, site := range seen.DataCenters {
		if site.Master {
			v.Serving, v.Instances = site.Serving, site.Instances
			continue
		}
		t := api.TargetReadiness{
			DataCenter: site.DataCenter, Ready: true, Instances: site.Instances, Standing: c.standing(s, signalbox.DataCenter(site.DataCenter)),
			Checks: c.looked(s, api.Order{Service: seen.Name, To: site.DataCenter}, proxies),
		}
		for _, i := range s.instances {
			if string(i.DataCenter) == site.DataCenter && i.reachable() {
				st := i.newest().status
				t.LagBytes, t.LagMS = max(t.LagBytes, st.GetLagBytes()), max(t.LagMS, st.GetLagNano()/int64(time.Millisecond))
			}
		}
		for _, check := range t.Checks {
			t.Ready = t.Ready && (check.OK || !check.Blocking)
		}
		v.Ready = v.Ready || t.Ready
		v.Targets = append(v.Targets, t)
	}
	return v
}

// common are the checks that concern all services.
func (c *Coordinator) common() []api.Check {
	return []api.Check{c.votersCheck(), c.aloneCheck(), c.journalCheck(), c.expiryCheck()}
}

// votersCheck says whether enough voters can be reached to decide anything.
func (c *Coordinator) votersCheck() api.Check {
	up, down, now := 0, []string{}, c.opt.Voting()
	for _, name := range now.Voters {
		if name == c.opt.Gateway || c.peersUp[name] {
			up++
		} else {
			down = append(down, name)
		}
	}
	check := api.Check{
		Name: "voters", OK: len(down) == 0, Blocking: up < now.Quorum,
		Detail: fmt.Sprintf("%d of %d voters can be reached, and %d are needed", up, len(now.Voters), now.Quorum),
	}
	if len(down) > 0 {
		check.Detail += "; not " + naming(down)
		check.Do = "start them, or look at the network between"
	}
	return check
}

// aloneCheck says in which data centers an instance that restarts stays closed
// while they are cut off from the others: those that have no quorum by themselves.
func (c *Coordinator) aloneCheck() api.Check {
	voters, alone, now := map[string]int{}, []string{}, c.opt.Voting()
	for _, name := range now.Voters {
		dc := c.opt.DataCenter
		if name != c.opt.Gateway {
			dc = c.opt.Peers[name]
		}
		voters[string(dc)]++
	}
	for _, dc := range c.dataCenters() {
		if voters[dc] < now.Quorum {
			alone = append(alone, fmt.Sprintf("%s (%d)", dc, voters[dc]))
		}
	}
	check := api.Check{Name: "restart-alone", OK: len(alone) == 0, Detail: "every data center has a quorum of voters by itself"}
	if len(alone) > 0 {
		check.Detail = fmt.Sprintf("%d voters are needed, and too few are in %s: an instance that restarts there while the others cannot be reached stays closed", now.Quorum, naming(alone))
		check.Do = "know the way out: signalbox instance attest --start"
	}
	return check
}

// journalCheck says whether this gateway's journal takes blocks.
func (c *Coordinator) journalCheck() api.Check {
	check := api.Check{Name: "journal", OK: true, Blocking: true, Detail: fmt.Sprintf("the log is here up to block %d", c.opt.Journal.Index())}
	if err := c.opt.Journal.Failed(); err != nil {
		check.OK, check.Detail, check.Do = false, err.Error(), "look at the disk, then start this gateway again"
	} else if c.opt.Journal.Restored() {
		check.OK, check.Detail = false, "the journal is empty or from a backup, and has not caught up with every other gateway"
		check.Do = "start the other gateways"
	}
	return check
}

// expiryCheck says which certificates end soon: this gateway's, the CA's, and of
// who connected to it.
func (c *Coordinator) expiryCheck() api.Check {
	now := c.opt.Now()
	var over, soon []string
	first := Expiry{}
	for _, e := range c.expiries() {
		if first.NotAfter.IsZero() || e.NotAfter.Before(first.NotAfter) {
			first = e
		}
		switch left := e.NotAfter.Sub(now); {
		case left <= 0:
			over = append(over, e.What)
		case left < expiresSoon:
			soon = append(soon, fmt.Sprintf("%s (in %d days)", e.What, int(left/(24*time.Hour))))
		}
	}
	check := api.Check{Name: "certificates", OK: true, Blocking: len(over) > 0, Detail: "nothing known here expires"}
	if !first.NotAfter.IsZero() {
		check.Detail = fmt.Sprintf("%s is the first to expire, on %s", first.What, first.NotAfter.UTC().Format(time.DateOnly))
	}
	if len(over)+len(soon) > 0 {
		check.OK, check.Do = false, "signalbox keys rotate BUNDLE, then copy it to its machine; of a CA: docs/operations, keys"
		check.Detail = strings.TrimPrefix(stating("expired", over)+stating("; expires soon", soon), "; ")
	}
	return check
}

func stating(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return what + ": " + naming(names)
}

func (c *Coordinator) expiries() []Expiry {
	if c.opt.Expiries == nil {
		return nil
	}
	return c.opt.Expiries()
}

// naming joins the first of many names.
func naming(names []string) string {
	slices.Sort(names)
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}

// survey looks at everything now and then, for the metrics, and not while
// somebody's requests are held.
func (c *Coordinator) survey() {
	now := c.opt.Now()
	if now.Sub(c.surveyed) < surveyEvery || len(c.busy) > 0 {
		return
	}
	v := c.readiness("")
	took := c.opt.Now().Sub(now)
	c.surveyed = now.Add(max(0, surveyShare*took-surveyEvery)) // what took long counts as done later
	c.opt.Metrics.readiness(&v, c.expiries())
	for _, s := range c.services {
		said, term := c.people(s.conf.Name)
		waiting := 0
		for i := range said.Waiting {
			if said.Waiting[i].Holds(term, now) {
				waiting++
			}
		}
		c.opt.Metrics.people(string(s.conf.Name), said.Pause.Holds(now), s.meter(said.Pause, now), waiting)
	}
}

// meter returns for how long the service was paused since it was asked last.
func (s *service) meter(p *policy.Paused, now time.Time) time.Duration {
	from := s.metered
	s.metered = now
	if p == nil || from.IsZero() {
		return 0
	}
	if p.Since.After(from) {
		from = p.Since
	}
	until := now
	if p.Until.Before(until) {
		until = p.Until
	}
	return max(0, until.Sub(from))
}

// Evacuation implements api.Surveyor.
func (c *Coordinator) Evacuation(ctx context.Context, dc, to string) (v api.Evacuation, err error) {
	var fault error
	err = c.ask(ctx, func() { v, fault = c.evacuation(dc, to) })
	if err == nil {
		err = fault
	}
	return v, err
}

func (c *Coordinator) evacuation(dc, to string) (api.Evacuation, error) {
	v := api.Evacuation{DataCenter: dc, Ready: true}
	if known := c.dataCenters(); !slices.Contains(known, dc) || to != "" && !slices.Contains(known, to) {
		return v, fmt.Errorf("%w: data center %q to %q: the services' are %s", signalbox.ErrUnknown, dc, to, strings.Join(known, ", "))
	}
	if dc == to {
		return v, fmt.Errorf("%w: %s cannot be evacuated to itself", signalbox.ErrInvalid, dc)
	}
	depends, proxies := map[string][]string{}, c.allProxies()
	for _, s := range c.services {
		on := []string{}
		for _, d := range s.conf.DependsOn {
			on = append(on, string(d))
		}
		depends[string(s.conf.Name)] = on
	}
	order, after, err := policy.DependencyOrder(depends)
	if err != nil {
		return v, err
	}
	here := func(name string) bool {
		s := c.services[signalbox.Service(name)]
		cert := s.machine.Certificate()
		return cert != nil && string(cert.DataCenter()) == dc && !s.conf.Observe
	}
	for _, name := range order {
		if !here(name) {
			continue
		}
		leg := c.leg(c.services[signalbox.Service(name)], dc, to, proxies)
		for _, other := range after[name] {
			if here(other) {
				leg.After = append(leg.After, other)
			}
		}
		v.Ready = v.Ready && leg.Ready
		v.Legs = append(v.Legs, leg)
	}
	return v, nil
}

// dataCenters lists the data centers of all services.
func (c *Coordinator) dataCenters() (out []string) {
	for _, s := range c.services {
		for _, dc := range s.conf.DataCenters {
			out = append(out, string(dc))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// leg plans one service's move out of a data center: to a given one, or to the
// first of its own that is ready.
func (c *Coordinator) leg(s *service, dc, to string, proxies []*proxyView) api.Leg {
	cert := s.machine.Certificate()
	leg := api.Leg{
		Service: string(s.conf.Name), From: dc,
		Current: signalbox.Expectation{DataCenter: cert.DataCenter(), Term: cert.Term}.String(),
	}
	leg.PredictedHoldMS, _ = s.predicted()
	for _, other := range s.conf.DataCenters {
		if string(other) == dc || to != "" && string(other) != to {
			continue
		}
		var blocks []string
		for _, check := range c.looked(s, api.Order{Service: leg.Service, To: string(other)}, proxies) {
			if check.Blocking && !check.OK {
				blocks = append(blocks, check.Detail+"; "+check.Do)
			}
		}
		if leg.To == "" || len(blocks) == 0 {
			leg.To, leg.Blocks, leg.Ready = string(other), blocks, len(blocks) == 0
		}
		if leg.Ready {
			return leg
		}
	}
	if leg.To == "" {
		leg.Blocks = []string{fmt.Sprintf("%s has no other data center to go to", leg.Service)}
		if to != "" {
			leg.Blocks = []string{fmt.Sprintf("%s cannot be in %s (its data centers: %v)", leg.Service, to, s.conf.DataCenters)}
		}
	}
	return leg
}
