package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// The results of a leg.
const (
	legMoved    = "moved"
	legReverted = "reverted"
	legRefused  = "refused"
	legConflict = "conflict"
	legTimeout  = "timed-out"
	legFailed   = "failed"
	legStopped  = "stopped" // not begun: what it depends on did not move
)

// evacuated is how an evacuation ended.
type evacuated struct {
	DataCenter string   `json:"data_center"`
	Legs       []legEnd `json:"legs"`
}

// legEnd is how one service's part ended.
type legEnd struct {
	Service  string   `json:"service"`
	To       string   `json:"to,omitempty"`
	Result   string   `json:"result"`
	Handover string   `json:"handover,omitempty"`
	HoldMS   *float64 `json:"hold_ms,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// left lists the services that did not move.
func (e *evacuated) left() (out []string) {
	for _, l := range e.Legs {
		if l.Result != legMoved {
			out = append(out, l.Service)
		}
	}
	return out
}

// exitCode is that of what is worst to leave alone: first what is still going.
func (e *evacuated) exitCode() int {
	for _, kind := range []struct {
		result string
		code   int
	}{
		{legTimeout, exitTimeout}, {legReverted, exitReverted}, {legConflict, exitConflict}, {legRefused, exitRefused},
		{legFailed, exitFailure}, {legStopped, exitFailure},
	} {
		if slices.ContainsFunc(e.Legs, func(l legEnd) bool { return l.Result == kind.result }) {
			return kind.code
		}
	}
	return exitOK
}

// evacuation carries a plan out: each leg once those before it have moved, some
// at a time.
type evacuation struct {
	std    stdio
	client *client.Client
	by     *signer
	plan   *api.Evacuation
	flags  evacuateFlags
	slots  chan struct{}

	mu   sync.Mutex
	ends map[string]*legEnd
	done map[string]chan struct{}
}

func newEvacuation(std stdio, c *client.Client, plan *api.Evacuation, flags evacuateFlags) *evacuation {
	e := &evacuation{
		std: std, client: c, plan: plan, flags: flags, slots: make(chan struct{}, flags.parallel),
		ends: map[string]*legEnd{}, done: map[string]chan struct{}{},
	}
	for _, l := range plan.Legs {
		e.done[l.Service] = make(chan struct{})
	}
	return e
}

// run moves all legs and returns when each has ended.
func (e *evacuation) run(ctx context.Context) *evacuated {
	var all sync.WaitGroup
	for _, leg := range e.plan.Legs {
		all.Go(func() {
			end := e.leg(ctx, leg)
			end.Service = leg.Service
			e.say(&end)
			e.mu.Lock()
			e.ends[leg.Service] = &end
			e.mu.Unlock()
			close(e.done[leg.Service])
		})
	}
	all.Wait()
	out := &evacuated{DataCenter: e.plan.DataCenter, Legs: []legEnd{}}
	for _, l := range e.plan.Legs {
		out.Legs = append(out.Legs, *e.ends[l.Service])
	}
	return out
}

// say tells how a leg ended, at once.
func (e *evacuation) say(l *legEnd) {
	text := l.Service + ": " + l.Result
	if l.To != "" {
		text += " (" + l.To + ")"
	}
	if l.Detail != "" {
		text += ": " + l.Detail
	}
	e.print(text)
}

func (e *evacuation) print(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintln(e.std.err, clean(text))
}

// leg waits for what the service depends on, then moves it.
func (e *evacuation) leg(ctx context.Context, leg api.Leg) legEnd {
	var stuck []string
	for _, other := range leg.After {
		if e.done[other] == nil {
			continue
		}
		<-e.done[other] // ends with ctx at the latest
		e.mu.Lock()
		if end := e.ends[other]; end.Result != legMoved {
			stuck = append(stuck, other)
		}
		e.mu.Unlock()
	}
	if len(stuck) > 0 {
		return legEnd{To: leg.To, Result: legStopped, Detail: "not begun: it depends on " + strings.Join(stuck, ", ") + ", which did not move"}
	}
	if leg.To == "" {
		return legEnd{Result: legRefused, Detail: strings.Join(leg.Blocks, "; ")}
	}
	h, err := e.begin(ctx, leg)
	if err == nil {
		h, err = e.follow(ctx, h)
	}
	return ended(leg, h, err)
}

// begin gives a leg's order, once a slot is free, and again while others have to
// approve it.
func (e *evacuation) begin(ctx context.Context, leg api.Leg) (api.Handover, error) {
	key := client.NewKey()
	told := false
	request := api.SwitchRequest{
		Service: leg.Service, To: leg.To, Expect: leg.Current, Reason: e.reason(), AllowLateProxies: e.flags.allowLate, BreakGlass: e.flags.glass,
	}
	for {
		h, err := e.order(ctx, key, &request)
		var p *api.Problem
		if err == nil || !errors.As(err, &p) || p.Code != api.CodeApproval {
			return h, err
		}
		if !told {
			told = true
			e.print(leg.Service + ": " + p.Detail + "\n  " + p.Do)
		}
		timer := time.NewTimer(approvalPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return api.Handover{ID: p.Handover}, fmt.Errorf("%w: order %s still waits for approval", ctx.Err(), p.Handover)
		}
	}
}

func (e *evacuation) order(ctx context.Context, key string, request *api.SwitchRequest) (api.Handover, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return api.Handover{}, ctx.Err()
	}
	err := e.by.switching(ctx, e.client, key, request)
	var h api.Handover
	if err == nil {
		h, err = e.client.Switch(ctx, key, *request)
	}
	if err != nil {
		<-e.slots
		return h, err
	}
	e.print(fmt.Sprintf("%s: handover %s to %s", request.Service, h.ID, request.To))
	return h, nil
}

func (e *evacuation) reason() string {
	text := "evacuation of " + e.plan.DataCenter
	if e.flags.reason != "" {
		text += ": " + e.flags.reason
	}
	return text
}

// follow waits for a handover's end, and for that of what supersedes it, and
// gives its slot back.
func (e *evacuation) follow(ctx context.Context, h api.Handover) (api.Handover, error) {
	defer func() { <-e.slots }()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for chain := 0; ; {
		switch {
		case h.Outcome == api.OutcomeSuperseded && h.SupersededBy != "" && chain < maxChain:
			chain++
			h = api.Handover{ID: h.SupersededBy, Service: h.Service, Outcome: api.OutcomeOpen}
		case h.Done():
			return h, nil
		default:
			select {
			case <-poll.C:
			case <-ctx.Done():
				return h, ctx.Err()
			}
		}
		if fresh, err := e.client.Handover(ctx, h.ID); err == nil {
			h = fresh
		}
	}
}

// ended says how a leg ended.
func ended(leg api.Leg, h api.Handover, err error) legEnd {
	end := legEnd{To: leg.To, Handover: h.ID, HoldMS: h.HoldMS}
	var p *api.Problem
	switch {
	case err == nil && h.Outcome == api.OutcomeForward && h.To == leg.To:
		end.Result = legMoved
	case err == nil:
		end.Result, end.Detail = legReverted, h.GivenUp
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), exitCode(err) == exitTimeout:
		end.Result, end.Detail = legTimeout, err.Error()
		if h.ID != "" {
			end.Detail += "; follow it: signalbox watch --handover " + h.ID
		}
	default:
		end.Detail = err.Error()
		if errors.As(err, &p) && p.Handover != "" {
			end.Handover = p.Handover
		}
		end.Result = map[int]string{exitConflict: legConflict, exitRefused: legRefused}[exitCode(err)]
		if end.Result == "" {
			end.Result = legFailed
		}
	}
	return end
}
