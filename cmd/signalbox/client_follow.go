package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/gateway/api/report"
)

const (
	// pollInterval is how often the record is read beside the event stream,
	// which may be missing or late.
	pollInterval = 500 * time.Millisecond
	// streamWait is how long an order waits for the event stream to open.
	streamWait = 2 * time.Second
	// maxChain is how many superseding handovers are followed.
	maxChain = 16
)

// waitFlags are --wait and --timeout.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func addWait(cmd *cobra.Command) *waitFlags {
	f := &waitFlags{}
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait for the outcome and show what happens meanwhile")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait; the handover goes on afterwards")
	return f
}

// follower shows a handover while it happens. Progress goes to the error
// output, the result to the output.
type follower struct {
	std     stdio
	client  *client.Client
	service string
	events  chan api.Event
	seen    map[string]bool
}

func newFollower(std stdio, c *client.Client, service string) *follower {
	return &follower{std: std, client: c, service: service, events: make(chan api.Event), seen: map[string]bool{}}
}

// run gives an order and, when it is to wait, follows the handover to its end;
// verdict turns the outcome into an exit code.
func (f *follower) run(ctx context.Context, wait *waitFlags, output *outputFlag, order func(context.Context) (api.Handover, error), verdict func(*api.Handover) int) error {
	ctx, cancel := context.WithTimeout(ctx, wait.timeout)
	defer cancel()
	if wait.wait {
		defer f.listen(ctx, cancel)()
		f.opened(ctx)
	}
	h, err := order(ctx)
	if ctx.Err() != nil && err != nil && !hasExitCode(err) {
		return withCode(exitTimeout, fmt.Errorf("%w: no answer came, and the order may have arrived\n  look: signalbox status %s", err, f.service))
	}
	if err != nil {
		return err
	}
	if !wait.wait {
		return output.write(f.std.out, h, func(w io.Writer, _ bool) error {
			_, err := fmt.Fprintf(w, "handover %s is accepted; follow it: signalbox watch --handover %s\n", h.ID, h.ID)
			return err
		})
	}
	return f.finish(ctx, h, output, verdict)
}

// finish follows an accepted handover to its end and prints the result.
func (f *follower) finish(ctx context.Context, h api.Handover, output *outputFlag, verdict func(*api.Handover) int) error {
	fmt.Fprintf(f.std.err, "handover %s: %s\n", h.ID, clean(heading(&h)))
	h, err := f.toEnd(ctx, h)
	if err != nil {
		return stillGoing(&h, err)
	}
	if err := output.write(f.std.out, h, func(w io.Writer, _ bool) error { return summary(w, &h) }); err != nil {
		return err
	}
	if code := verdict(&h); code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// listen follows the service's events in the background; the returned function
// ends it and waits for its end.
func (f *follower) listen(ctx context.Context, cancel func()) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Without a stream the record is still polled.
		_ = f.client.Follow(ctx, client.Filter{Service: f.service}, func(e api.Event) error {
			select {
			case f.events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return func() { cancel(); <-done }
}

// opened waits until the stream is open, so that nothing of what is ordered
// next goes unseen.
func (f *follower) opened(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	select {
	case <-f.events: // the first event says that the stream is open
	case <-ctx.Done():
	}
}

// toEnd shows the handover, and those that supersede it, until one is over. On
// an error h is what was known last.
func (f *follower) toEnd(ctx context.Context, h api.Handover) (api.Handover, error) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for chain := 0; ; {
		f.show(&h)
		switch {
		case h.Outcome == api.OutcomeSuperseded && h.SupersededBy != "" && chain < maxChain:
			chain++
			fmt.Fprintln(f.std.err, clean(fmt.Sprintf("superseded by handover %s", h.SupersededBy)))
			h = api.Handover{ID: h.SupersededBy, Service: h.Service, Started: h.Started, Outcome: api.OutcomeOpen}
		case h.Done():
			return h, nil
		default:
			if err := f.next(ctx, &h, poll.C); err != nil {
				return h, err
			}
		}
		if fresh, err := f.client.Handover(ctx, h.ID); err == nil {
			h = fresh
		} else if final := ctx.Err(); final != nil {
			return h, final
		}
	}
}

// next prints events until the record is worth reading again.
func (f *follower) next(ctx context.Context, h *api.Handover, poll <-chan time.Time) error {
	for {
		select {
		case e := <-f.events:
			if e.Kind == api.EventReset {
				return nil
			}
			if e.Handover != h.ID {
				continue
			}
			f.line(h.Started, &e)
			if e.Kind == api.EventOutcome {
				return nil
			}
		case <-poll:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// show prints what the record's timeline has and the stream did not bring.
func (f *follower) show(h *api.Handover) {
	for i := range h.Events {
		f.line(h.Started, &h.Events[i])
	}
}

func (f *follower) line(started time.Time, e *api.Event) {
	key := strings.Join([]string{e.At.UTC().Format(time.RFC3339Nano), e.Gateway, e.Kind, e.Instance, e.Detail}, "\n")
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	since := report.Milliseconds(float64(e.At.Sub(started).Microseconds()) / 1000)
	phase := e.Phase
	if phase == "" {
		phase = e.Kind
	}
	fmt.Fprintln(f.std.err, clean(fmt.Sprintf("%12s  %-8s  %s", since, phase, eventText(e))))
}

// eventText names whom an event is about, once.
func eventText(e *api.Event) string {
	if e.Instance == "" || strings.Contains(e.Detail, e.Instance) {
		return e.Detail
	}
	return e.Instance + ": " + e.Detail
}

func heading(h *api.Handover) string {
	if h.From == "" {
		return fmt.Sprintf("%s is adopted in %s as term %d", h.Service, h.To, h.Term)
	}
	return fmt.Sprintf("%s from %s to %s, term %d", h.Service, h.From, h.To, h.Term)
}

// stillGoing is exit code 4: it says how things stand and how to follow them.
func stillGoing(h *api.Handover, cause error) error {
	why := whyEnded(cause)
	waiting := ""
	if len(h.Waiting) > 0 {
		waiting = ", waiting for " + strings.Join(h.Waiting, "; ")
	}
	text := fmt.Sprintf("%s: handover %s is still going (%s%s) and ends by itself\n  follow it: signalbox watch --handover %s",
		why, h.ID, orUnknown(h.State), waiting, h.ID)
	if h.CertifiedTerm == 0 { // later there is only the way back
		text += fmt.Sprintf("\n  stay with %s while it is not certified: signalbox cutover give-up %s", orUnknown(h.From), h.ID)
	}
	return withCode(exitTimeout, errors.New(clean(text)))
}

// whyEnded says why a verb did not wait any longer.
func whyEnded(cause error) string {
	if errors.Is(cause, context.DeadlineExceeded) {
		return "timed out"
	}
	return "interrupted"
}

func orUnknown(s string) string {
	if s == "" {
		return "the old master"
	}
	return s
}

// summary is what a switch ends with.
func summary(w io.Writer, h *api.Handover) error {
	var b strings.Builder
	switch h.Outcome {
	case api.OutcomeForward:
		current := signalbox.Expectation{DataCenter: signalbox.DataCenter(h.To), Term: signalbox.Term(h.CertifiedTerm)}
		fmt.Fprintf(&b, "%s: %s is master (%s)", h.Service, h.To, current)
	case api.OutcomeFallback:
		current := signalbox.Expectation{DataCenter: signalbox.DataCenter(h.From), Term: signalbox.Term(h.CertifiedTerm)}
		fmt.Fprintf(&b, "%s: REVERTED, %s is master on (%s)", h.Service, h.From, current)
		if h.GivenUp != "" {
			fmt.Fprintf(&b, ": %s", h.GivenUp)
		}
	default:
		fmt.Fprintf(&b, "%s: %s", h.Service, h.Outcome)
	}
	if h.HoldMS != nil {
		fmt.Fprintf(&b, "; requests were held %s", report.Milliseconds(*h.HoldMS))
	}
	if r := h.Requests; r != nil {
		fmt.Fprintf(&b, ", %d failed", r.Failed)
	}
	if len(h.LateProxies) > 0 {
		fmt.Fprintf(&b, "\nlate proxies: %s", strings.Join(h.LateProxies, ", "))
	}
	fmt.Fprintf(&b, "\nreport: signalbox cutover report %s\n", h.ID)
	_, err := io.WriteString(w, clean(b.String()))
	return err
}
