// Package httpdriver drives an instance over the HTTP contract, so that a
// service in any language can be handed over:
//
//	GET  {base}/ready       {"ready":true,"lag_seconds":0,"lag_bytes":0,"problem":"","problems":[]}
//	GET  {base}/mastership  {"master":true,"term":7,"in_flight":3,"run":"...","leaving":false}
//	POST {base}/step-down   {"service":"orders","term":7,"deadline":"2006-01-02T15:04:05.999999999Z","streams":"abort"}
//	POST {base}/promote     {"service":"orders","term":8}
//	POST {base}/lease       {"service":"orders","term":8,"deadline":"...","ttl_seconds":2.9}
//
// An instance starts as not master. step-down names the highest term that it
// shall no longer serve; it answers 200 with {"drained":true} when it is closed
// and nothing is in flight, as one state, and stays so until it is promoted, to
// the same term when a handover was given up. It stops taking new work when 2 ms
// have passed without a request, 50 ms at most. When the deadline (RFC 3339)
// passes before, it answers anything else, {"drained":false} for example, and is
// asked again. streams, where the service's policy is not to wait for them, is
// "cut" (end long-lived connections and requests when closing) or "abort": as soon
// as nothing else is in flight the instance answers 200 with
// {"drained":false,"in_flight":2,"streams":2}, both the number of streams, and the
// handover is given up. An instance without streams ignores it. incoming, where it is
// known, is who is to be promoted, [{"name":"orders-west-1","address":"10.2.0.9:8080"}]:
// an instance with data sees to it that they have everything. promote answers 200 when it serves. It refuses a request that is
// routed for a term above its own, or that comes while it is not master, with
// status 503 and X-Signalbox-Not-Master. run, optional, names one run of the
// process; leaving, optional, asks the agent for an orderly leave: the process
// may exit once it was stepped down and answers nothing in flight.
//
// lease comes where the term uses leases: before the promotion to it, then again
// and again. The instance answers 200 with {"leased":true}, and from then on serves
// the term (once it is promoted to it) until the deadline and for ttl_seconds from
// now at most, whatever the agent does: past that it is not master, and what it has
// in flight must not be answered as a success. A later deadline of the term takes
// the place of an earlier one. An instance that does not answer so is not promoted.
// The promotion then says "leased":true, and an instance without a live lease of the
// term, because it was started again since, refuses it.
//
// Errors are any other status; the body's "detail" (RFC 9457), where there is
// one, is what people are shown. Unknown members are ignored on both sides.
//
// Guarantees: every call ends with its context, bodies are bounded, a reply that
// does not say it is drained never counts as drained. The driver follows no
// redirect: another process's word is not this instance's.
package httpdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

const (
	// MaxBody is the largest reply that is read, in bytes.
	MaxBody = 16 << 10
	// maxStepDown bounds one step-down call; a drain that takes longer is asked
	// for again.
	maxStepDown = 10 * time.Second
	// grace is how long after its deadline an instance may take to answer.
	grace = time.Second
	// again is the wait before an instance that has not drained is asked again.
	again = 10 * time.Millisecond
	// maxLag bounds the lag that an instance may claim.
	maxLag = 365 * 24 * time.Hour
)

// Driver drives one instance. Safe for concurrent use.
type Driver struct {
	base   string
	client *http.Client
}

var (
	_ driver.Driver = (*Driver)(nil)
	_ driver.Leaser = (*Driver)(nil)
)

// New returns a driver for the instance at base, an http or https URL, for
// example "http://127.0.0.1:8080/signalbox". It does not connect yet.
func New(base string) (*Driver, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: driver address %q: want a URL like http://127.0.0.1:8080/signalbox", signalbox.ErrInvalid, base)
	}
	return &Driver{
		base: strings.TrimSuffix(base, "/"),
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 2,
				IdleConnTimeout:     time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// order is the body of a POST.
type order struct {
	Service  string `json:"service"`
	Term     uint64 `json:"term"`
	Deadline string `json:"deadline,omitempty"`
	Streams  string `json:"streams,omitempty"`
	// Incoming, in a step-down, is who is to be promoted.
	Incoming []peer `json:"incoming,omitempty"`
	Position string `json:"position,omitempty"`
	// TTLSeconds is what is left until Deadline by the clock that nobody sets.
	TTLSeconds float64 `json:"ttl_seconds,omitempty"`
	// Leased, in a promotion: the term uses leases.
	Leased bool `json:"leased,omitempty"`
}

type peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// reply is every member that any reply has.
type reply struct {
	Ready      bool    `json:"ready"`
	LagSeconds float64 `json:"lag_seconds"`
	Problem    string  `json:"problem"`
	LagBytes   uint64  `json:"lag_bytes"`
	Problems   []struct {
		Name string `json:"name"`
		What string `json:"what"`
		Do   string `json:"do"`
	} `json:"problems"`
	Master   bool   `json:"master"`
	Term     uint64 `json:"term"`
	InFlight uint64 `json:"in_flight"`
	Streams  uint64 `json:"streams"`
	Run      string `json:"run"`
	Leaving  bool   `json:"leaving"`
	Drained  bool   `json:"drained"`
	Leased   bool   `json:"leased"`
	Position string `json:"position"`
	Detail   string `json:"detail"`
}

// Ready implements driver.Driver.
func (d *Driver) Ready(ctx context.Context) (driver.Readiness, error) {
	r, err := d.call(ctx, http.MethodGet, "ready", nil)
	if err != nil {
		return driver.Readiness{}, err
	}
	lag := max(0, min(r.LagSeconds, maxLag.Seconds()))
	out := driver.Readiness{Ready: r.Ready, Problem: r.Problem, Lag: time.Duration(lag * float64(time.Second)), LagBytes: r.LagBytes}
	for _, p := range r.Problems[:min(len(r.Problems), driver.MaxProblems)] {
		out.Problems = append(out.Problems, driver.Problem{Name: p.Name, What: p.What, Do: p.Do})
	}
	return out, nil
}

// Status implements driver.Driver.
func (d *Driver) Status(ctx context.Context) (driver.Status, error) {
	r, err := d.call(ctx, http.MethodGet, "mastership", nil)
	if err != nil {
		return driver.Status{}, err
	}
	return driver.Status{Master: r.Master, Term: signalbox.Term(r.Term), InFlight: r.InFlight, Run: r.Run, Leaving: r.Leaving}, nil
}

// Promote implements driver.Driver.
func (d *Driver) Promote(ctx context.Context, o driver.Promotion) error {
	_, err := d.call(ctx, http.MethodPost, "promote", &order{Service: string(o.Service), Term: uint64(o.Term), Position: string(o.Position), Leased: o.Leased})
	return err
}

// StepDown implements driver.Driver. It asks again until the instance says that
// it has drained, ctx ends, or the instance answers with an error of its own.
func (d *Driver) StepDown(ctx context.Context, o driver.StepDown) (driver.Position, error) {
	for {
		r, err := d.stepDown(ctx, o)
		if err != nil {
			return nil, err
		}
		if r.Drained {
			if r.Position == "" {
				return nil, nil
			}
			return driver.Position(r.Position), nil
		}
		if o.Streams == signalbox.StreamsAbort && r.Streams > 0 && r.Streams == r.InFlight {
			return nil, driver.ErrStreams
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// stepDown makes one call. The instance is given time until the order's deadline
// or for maxStepDown, whichever is sooner.
func (d *Driver) stepDown(ctx context.Context, o driver.StepDown) (reply, error) {
	deadline := time.Now().Add(maxStepDown)
	if !o.Deadline.IsZero() && o.Deadline.Before(deadline) && time.Until(o.Deadline) > 0 {
		deadline = o.Deadline
	}
	call, cancel := context.WithDeadline(ctx, deadline.Add(grace))
	defer cancel()
	body := &order{Service: string(o.Service), Term: uint64(o.Term), Deadline: deadline.UTC().Format(time.RFC3339Nano)}
	if o.Streams != signalbox.StreamsWait {
		body.Streams = o.Streams.String()
	}
	for _, p := range o.Incoming {
		body.Incoming = append(body.Incoming, peer(p))
	}
	r, err := d.call(call, http.MethodPost, "step-down", body)
	var status *statusError
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return reply{}, ctx.Err()
	case errors.As(err, &status) && status.code == http.StatusGatewayTimeout:
		return reply{}, nil // not drained in time: ask again
	}
	return reply{}, err
}

// Lease implements driver.Leaser. It fails when the instance does not say that it
// took the lease: a service that knows no leases enforces none.
func (d *Driver) Lease(ctx context.Context, o driver.LeaseOrder) error {
	now := time.Now()
	left := min(o.Boot-driver.BootTime(), o.Deadline.Sub(now))
	if left <= 0 {
		return fmt.Errorf("pass the lease on: %w: it has run out", signalbox.ErrRefused)
	}
	r, err := d.call(ctx, http.MethodPost, "lease", &order{
		Service: string(o.Service), Term: uint64(o.Term), TTLSeconds: left.Seconds(),
		Deadline: now.Add(left).UTC().Format(time.RFC3339Nano),
	})
	if err == nil && !r.Leased {
		err = fmt.Errorf("%w: the instance does not say that it keeps to leases ({\"leased\":true})", signalbox.ErrNotConfigured)
	}
	return err
}

// Stop implements driver.Driver.
func (d *Driver) Stop(context.Context) error {
	d.client.CloseIdleConnections()
	return nil
}

// statusError is a reply with another status than 200.
type statusError struct {
	call   string
	code   int
	detail string
}

// Error says what the instance said and what to look at.
func (e *statusError) Error() string {
	text := fmt.Sprintf("%s: the instance answered %d", e.call, e.code)
	if e.detail != "" {
		text += ": " + e.detail
	}
	if e.code == http.StatusNotFound {
		text += " (does the driver's address end where the contract begins?)"
	}
	return text
}

// call makes one request and reads the reply.
func (d *Driver) call(ctx context.Context, method, path string, body *order) (reply, error) {
	name := method + " " + d.base + "/" + path
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return reply{}, fmt.Errorf("%s: encode: %w", name, err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+"/"+path, content)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", name, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("reach instance: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return reply{}, fmt.Errorf("%s: read reply: %w", name, err)
	}
	var r reply
	decoded := json.Unmarshal(raw, &r)
	if resp.StatusCode != http.StatusOK {
		return reply{}, &statusError{call: name, code: resp.StatusCode, detail: r.Detail[:min(len(r.Detail), 200)]}
	}
	if len(raw) > MaxBody {
		return reply{}, fmt.Errorf("%s: %w: the reply has more than %d bytes", name, signalbox.ErrInvalid, MaxBody)
	}
	if len(raw) > 0 && decoded != nil {
		return reply{}, fmt.Errorf("%s: %w: the reply is not the contract's JSON: %w", name, signalbox.ErrInvalid, decoded)
	}
	return r, nil
}
