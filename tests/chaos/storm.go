//go:build chaos || root

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// A Storm is one fault in one handover of a site of namespaces.
type Storm struct {
	Fault
	// Failover orders a failover, not a switch: of who is master, by a gateway of the other data center.
	Failover bool
	// At is when the fault begins after the order, or before it where it is negative.
	At time.Duration
	// Lasts is how long the fault does.
	Lasts time.Duration
}

const (
	stormRate   = 200
	stormAnswer = 12 * time.Second // how long a caller waits
	// askFor is how long a failover waits for acks: shorter than a lease, so that what lapses too early would show.
	askFor = LeaseTTL / 8
	calm   = time.Second // of load without a failure, in the end
)

// Run orders the handover under load, has the fault happen, ends it, and waits until the site is itself again: every
// handover over, with one outcome, and no caller held. The loads are for the oracle.
func (s Storm) Run(ctx context.Context, k *Kernel) (loads []*demo.Load, told string, err error) {
	service, err := k.API().Service(ctx, demo.Service)
	if err != nil {
		return nil, "", err
	}
	before := k.starts()
	l, err := k.Load(stormRate, noSlow, func(c *load.Config) { c.Timeout, c.Grace = stormAnswer, stormAnswer })
	if err != nil {
		return nil, "", err
	}
	loads = append(loads, l)
	ordered, err := s.happen(ctx, k, &service)
	if err == nil {
		err = k.over(ctx)
	}
	if stop := l.Stop(); stop != nil || err != nil {
		return loads, "", errors.Join(err, stop)
	}
	report := l.Report(l.Window())
	told = fmt.Sprintf("%s at %s for %s: %v%s; %d of %d requests failed; started again: %v",
		s.Name, s.At, s.Lasts, ordered, k.ended(ctx), report.Failed, report.Total, k.since(before))
	if l, err = k.Load(stormRate, noSlow); err != nil {
		return loads, told, err
	}
	loads = append(loads, l)
	pause(ctx, calm)
	if err := l.Stop(); err != nil {
		return loads, told, err
	}
	if r := l.Report(l.Window()); r.Failed > 0 || r.Total == 0 {
		return loads, told, fmt.Errorf("%d of %d requests failed after all was over: %v", r.Failed, r.Total, r.Failures)
	}
	return loads, told, nil
}

// happen orders, and has the fault begin and end around that. It tells how the order was answered.
func (s Storm) happen(ctx context.Context, k *Kernel, service *api.Service) (told string, err error) {
	begin := func() error {
		if err := s.Begin(k); err != nil {
			return fmt.Errorf("begin fault: %w", err)
		}
		return nil
	}
	if s.At < 0 {
		if err := begin(); err != nil {
			return "", errors.Join(err, s.End(k))
		}
		pause(ctx, -s.At)
	}
	answered := make(chan string, 1)
	ordering, cancel := context.WithTimeout(ctx, stormAnswer)
	defer cancel()
	go func() { answered <- s.order(ordering, k, service) }()
	pause(ctx, max(0, s.At))
	if s.At >= 0 {
		err = begin()
	}
	pause(ctx, s.Lasts)
	if err := errors.Join(err, s.End(k)); err != nil {
		return "", err
	}
	return <-answered, nil
}

// order orders once. That it is refused or not answered is no error: which of the two the site makes of it is its own.
func (s Storm) order(ctx context.Context, k *Kernel, service *api.Service) string {
	to := demo.West
	if service.Master == demo.West {
		to = demo.East
	}
	began := time.Now()
	var err error
	if s.Failover {
		err = demo.Await(ctx, "the failover to be taken", func(ctx context.Context) error {
			_, err := k.ClientOf(k.GatewayIn(to)).Failover(ctx, client.NewKey(), api.FailoverRequest{
				Service: demo.Service, To: to, Reason: "chaos: " + s.Name, HoldBudgetMS: askFor.Milliseconds(),
			})
			return err
		})
	} else {
		_, err = k.Begin(ctx, api.SwitchRequest{Service: demo.Service, To: to, Reason: "chaos: " + s.Name})
	}
	if err != nil {
		return fmt.Sprintf("to %s: not taken: %v", to, err)
	}
	return fmt.Sprintf("to %s: taken after %s", to, time.Since(began).Round(time.Millisecond))
}

// ended tells the newest handover's end.
func (k *Kernel) ended(ctx context.Context) string {
	list, err := k.API().Handovers(ctx, demo.Service, 1)
	if err != nil || len(list) == 0 {
		return ""
	}
	h, held := &list[0], "nothing"
	if h.HoldMS != nil {
		held = fmt.Sprintf("%.0f ms", *h.HoldMS)
	}
	return fmt.Sprintf("; %s to %s ended as %s, held %s", h.ID, h.To, h.Outcome, held)
}

// starts are how often each process was started.
func (k *Kernel) starts() map[string]int {
	starts := map[string]int{}
	for _, name := range k.Processes() {
		starts[name] = k.Starts(name)
	}
	return starts
}

// since are the processes that were started again since.
func (k *Kernel) since(before map[string]int) (names []string) {
	for _, name := range k.Processes() {
		if k.Starts(name) > before[name] {
			names = append(names, name)
		}
	}
	return names
}

// over waits until no handover is open anywhere, every gateway tells the same of each, and the site could switch again.
func (k *Kernel) over(ctx context.Context) error {
	return errors.Join(demo.Await(ctx, "every handover to be over", k.told), Steady(ctx, k.Site, ""))
}

// toldOf is how many of the newest handovers are compared.
const toldOf = 5

func (k *Kernel) told(ctx context.Context) error {
	type end struct {
		outcome string
		term    uint64
	}
	ends := map[string]end{}
	for _, g := range k.Gateways() {
		list, err := k.ClientOf(g.Name).Handovers(ctx, demo.Service, toldOf)
		if err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		for i := range list {
			h := &list[i]
			now := end{h.Outcome, h.CertifiedTerm}
			if before, ok := ends[h.ID]; !h.Done() || ok && before != now {
				return fmt.Errorf("%s says that %s is %s, %v; before it was said %v", g.Name, h.ID, h.State, now, before)
			}
			ends[h.ID] = now
		}
	}
	return nil
}
