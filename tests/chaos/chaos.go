// Package chaos kills processes of a site at the steps of a handover, with SIGKILL, and waits until the site has ended the
// handover by itself. The end-to-end tests sample it; make chaos runs all of it.
//
// As root it also runs sites whose data centers are network namespaces (tests/lab), cuts them apart, freezes processes and
// fills disks, at seeded moments.
//
// It aims by the gateways' own event stream, so a kill comes some hundred microseconds after the step began; what it
// hits exactly differs from run to run. What must hold does not depend on it.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// Kind is a kind of process.
type Kind string

// The kinds of processes.
const (
	Gateway  Kind = "gateway"
	Agent    Kind = "agent"
	Instance Kind = "instance"
	Envoy    Kind = "envoy"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Gateway, Agent, Instance, Envoy} }

// Harmless reports whether a kill fails no request: no request runs through such a process.
func (k Kind) Harmless() bool { return k == Gateway || k == Agent }

// A Trial is one kill at one step of one handover.
type Trial struct {
	Kind  Kind
	Phase string        // whose begin is waited for, as in api.Phases
	Which int           // of the processes of the kind, counted around
	After time.Duration // how long after the begin of the phase
}

// A Result is what became of the handover.
type Result struct {
	Killed   string
	Chain    []api.Handover // the handover, and those that superseded it
	Master   string         // in the end; empty when the order was not answered, so that both may be
	Began    bool           // the phase was reached before the handover ended
	Duration time.Duration  // from the kill to the end
}

// String tells a result in a line.
func (r Result) String() string {
	text := fmt.Sprintf("killed %s:", r.Killed)
	for i := range r.Chain {
		h := &r.Chain[i]
		text += fmt.Sprintf(" %s to %s ended as %s at term %d", h.ID, h.To, h.Outcome, h.CertifiedTerm)
		if h.HoldMS != nil {
			text += fmt.Sprintf(" (held %.1f ms)", *h.HoldMS)
		}
		if h.GivenUp != "" {
			text += " because " + h.GivenUp
		}
	}
	return fmt.Sprintf("%s; %s is master %s after the kill", text, r.Master, r.Duration.Round(time.Millisecond))
}

// Names are the processes of a kind in a site.
func Names(s *demo.Site, k Kind) (names []string) {
	switch k {
	case Gateway:
		for _, g := range s.Gateways() {
			names = append(names, g.Name)
		}
	case Envoy:
		for _, e := range s.Envoys() {
			names = append(names, e.Name)
		}
	case Instance:
		for _, in := range s.Instances() {
			names = append(names, in.Name)
		}
	case Agent:
		for _, in := range s.Instances() {
			if in.Agent != "" {
				names = append(names, in.Agent)
			}
		}
	}
	return names
}

// Run switches the site's service, kills at the step, and follows to the end. An error means that it did not end by
// itself, or that the trial could not be made.
func (t Trial) Run(ctx context.Context, s *demo.Site) (Result, error) {
	names := Names(s, t.Kind)
	r := Result{Killed: names[t.Which%len(names)]}
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return r, err
	}
	to := demo.West
	if service.Master == demo.West {
		to = demo.East
	}
	if err := demo.Await(ctx, r.Killed, func(context.Context) error {
		if s.Pid(r.Killed) == 0 {
			return errors.New("it does not run")
		}
		return nil
	}); err != nil {
		return r, err
	}
	if t.Phase == api.PhasePrepare {
		return r, r.early(ctx, s, t, to)
	}
	watch := watching(ctx, s, t.begin())
	defer watch.stop()
	if err := watch.wait(ctx, watch.open); err != nil {
		return r, fmt.Errorf("open the event stream: %w", err)
	}
	h, err := s.Order(ctx, api.SwitchRequest{Service: demo.Service, To: to, Reason: fmt.Sprintf("chaos: %s at %s", t.Kind, t.Phase)})
	if err != nil {
		return r, err
	}
	over := make(chan error, 1)
	go func() {
		_, err := s.Follow(ctx, h.ID)
		over <- err
	}()
	select {
	case <-watch.begun:
		r.Began = true
	case err := <-over:
		over <- err
	}
	pause(ctx, t.After)
	killed := time.Now()
	if err := s.Kill(r.Killed); err != nil {
		return r, err
	}
	if err := <-over; err != nil {
		return r, err
	}
	err = r.follow(ctx, s, h.ID)
	r.Duration = time.Since(killed)
	return r, err
}

// begin is the phase whose event is waited for: that of settle comes with the outcome, too late to be hit.
func (t Trial) begin() string {
	if t.Phase == api.PhaseSettle {
		return api.PhaseRelease
	}
	return t.Phase
}

// early kills while the handover is being agreed on; it may come to nothing.
func (r *Result) early(ctx context.Context, s *demo.Site, t Trial, to string) error {
	killed := make(chan error, 1)
	go func() {
		pause(ctx, t.After)
		killed <- s.Kill(r.Killed)
	}()
	h, err := s.Begin(ctx, api.SwitchRequest{Service: demo.Service, To: to, Reason: "chaos: killed while it is agreed on"})
	at := time.Now()
	if err := <-killed; err != nil {
		return err
	}
	if errors.Is(err, signalbox.ErrNotReady) || errors.Is(err, signalbox.ErrUnavailable) {
		return nil // refused, or nobody could say: who is master in the end shows only then
	}
	if err != nil {
		return err
	}
	r.Began = true
	err = r.follow(ctx, s, h.ID)
	r.Duration = time.Since(at)
	return err
}

// follow collects the handover and those that superseded it, until one is over for good.
func (r *Result) follow(ctx context.Context, s *demo.Site, id string) error {
	for id != "" {
		h, err := s.Follow(ctx, id)
		if err != nil {
			return err
		}
		r.Chain = append(r.Chain, h)
		switch id = ""; h.Outcome {
		case api.OutcomeForward:
			r.Master = h.To
		case api.OutcomeFallback:
			r.Master = h.From
		default:
			if id = h.SupersededBy; id == "" {
				return fmt.Errorf("handover %s ended as %s and nothing superseded it", h.ID, h.Outcome)
			}
		}
	}
	return nil
}

// watcher sees when a phase begins.
type watcher struct {
	open, begun chan struct{}
	cancel      context.CancelFunc
	done        chan struct{}
}

func watching(ctx context.Context, s *demo.Site, phase string) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{open: make(chan struct{}), begun: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	var open, begun sync.Once
	go func() {
		defer close(w.done)
		// Its end is the watcher's.
		_ = s.API().Follow(ctx, client.Filter{Service: demo.Service}, func(e api.Event) error {
			open.Do(func() { close(w.open) })
			if e.Kind == api.EventPhase && e.Phase == phase {
				begun.Do(func() { close(w.begun) })
			}
			return nil
		})
	}()
	return w
}

func (w *watcher) wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-w.done:
		return errors.New("the stream ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *watcher) stop() {
	w.cancel()
	<-w.done
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Steady waits until a site is itself again, with the master that it ended with;
// empty: whichever it is.
func Steady(ctx context.Context, site *demo.Site, master string) error {
	return demo.Await(ctx, "a steady site", func(ctx context.Context) error {
		service, err := site.API().Service(ctx, demo.Service)
		if err != nil {
			return err
		}
		if master != "" && service.Master != master {
			return fmt.Errorf("master is %q, and was %q at the end of the handover", service.Master, master)
		}
		return errors.Join(site.AllReady(ctx), site.Steady(ctx, demo.Service, service.Master))
	})
}
