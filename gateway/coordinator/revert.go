package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// settleWait bounds how long a revert waits for a certified handover to be over.
const settleWait = 6 * time.Second

// Revert implements api.Governor.
func (c *Coordinator) Revert(ctx context.Context, id string, o api.Order) (out api.RevertReply, err error) {
	out.How = api.RevertSwitched
	if h, err := c.Handover(ctx, o.ID); err == nil { // the same request before
		out.Handover = h
		return out, nil
	}
	h, err := c.Handover(ctx, id)
	if err != nil {
		return out, err
	}
	if !h.Done() && h.CertifiedTerm == 0 {
		out.Handover, err = c.GiveUp(ctx, id, o.By, o.Reason)
		if !errors.Is(err, signalbox.ErrRefused) {
			out.How = api.RevertGivenUp
			return out, err
		}
	}
	if h, err = c.settledRecord(ctx, id); err != nil {
		return out, err
	}
	if err := c.revertible(ctx, &h); err != nil {
		return out, err
	}
	o.Service, o.To = h.Service, h.From
	o.Expect = signalbox.Expectation{DataCenter: signalbox.DataCenter(h.To), Term: signalbox.Term(h.CertifiedTerm)}.String()
	signed, err := inspect(o.Mandate)
	if err != nil {
		return out, err
	}
	if o.Reason = api.RevertReason(id, o.Reason); signed != nil {
		o.Reason = signed.Reason
	}
	out.Handover, err = c.Switch(ctx, o)
	return out, err
}

// settledRecord waits until a handover is over, for a moment: what is certified
// settles within it.
func (c *Coordinator) settledRecord(ctx context.Context, id string) (api.Handover, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		h, err := c.Handover(ctx, id)
		if err == nil && h.Done() {
			return h, nil
		}
		if err != nil && ctx.Err() == nil {
			return h, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return h, &api.Fault{
				Err: fmt.Errorf("%w: handover %s is still %s", signalbox.ErrNotReady, id, h.State), Handover: id,
				Do: "It cannot be given up any more. When it is over, revert it again.",
			}
		}
	}
}

// revertible says why a handover that is over cannot be taken back.
func (c *Coordinator) revertible(ctx context.Context, h *api.Handover) error {
	switch {
	case h.Outcome == api.OutcomeFallback:
		return fmt.Errorf("%w: handover %s was given up (%s): %s is master on, there is nothing to take back", signalbox.ErrRefused, h.ID, h.GivenUp, h.From)
	case h.Outcome == api.OutcomeSuperseded:
		return fmt.Errorf("%w: handover %s was superseded by %s; revert that one", signalbox.ErrRefused, h.ID, h.SupersededBy)
	case h.From == "":
		return fmt.Errorf("%w: %s is an adoption: %s was nowhere before", signalbox.ErrRefused, h.ID, h.Service)
	}
	var newest string
	err := c.ask(ctx, func() {
		if s := c.services[signalbox.Service(h.Service)]; s != nil && s.machine.Certificate() != nil {
			newest = s.machine.Certificate().Handover().ID
		}
	})
	if err == nil && newest != h.ID {
		return &api.Fault{
			Err:      fmt.Errorf("%w: %s is not the newest handover of %s: %s came after it", signalbox.ErrRefused, h.ID, h.Service, newest),
			Handover: newest, Do: "Revert the newest one, or switch: signalbox switch " + h.Service + " --to " + h.From,
		}
	}
	return err
}

// Home implements api.Surveyor.
func (c *Coordinator) Home(_ context.Context, name string) (string, error) {
	if c.services[signalbox.Service(name)] == nil {
		return "", c.unknown(name)
	}
	said, term := c.people(signalbox.Service(name))
	switch {
	case term == 0:
		return "", fmt.Errorf("%w: service %s has no master yet", signalbox.ErrRefused, name)
	case said.Moved == nil:
		return "", &api.Fault{
			Err: fmt.Errorf("%w: %s never moved since it was adopted: there is nothing to go back to", signalbox.ErrRefused, name),
			Do:  "signalbox switch " + name + " --to DC moves it.",
		}
	}
	return string(said.Moved.From), nil
}
