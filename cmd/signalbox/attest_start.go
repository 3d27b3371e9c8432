package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// startWait bounds how long an attested instance is waited for.
const startWait = 20 * time.Second

// startAlone has the operator sign that an instance may serve although no quorum
// of voters has answered, and waits until it does.
func startAlone(ctx context.Context, cmd *cobra.Command, c *client.Client, std stdio, output *outputFlag, service, name, reason string) error {
	by, err := newSigner(cmd)
	if err != nil {
		return err
	}
	if by.bundle == nil {
		return usagef("the bundle holds no operator's key: starts are signed by people; `signalbox keys issue operator` makes a bundle with one")
	}
	i, err := waitingInstance(ctx, c, service, name)
	if err != nil {
		return err
	}
	challenge, err := hex.DecodeString(i.Challenge)
	if err != nil || len(challenge) != len(signalbox.Digest{}) {
		return fmt.Errorf("%w: the gateway names the challenge %.80q", signalbox.ErrInvalid, i.Challenge)
	}
	proof, err := by.seal(signalbox.Mandate{
		Verb: signalbox.VerbStart, Service: signalbox.Service(service), ID: i.Identity, Term: signalbox.Term(i.Term), Of: signalbox.Digest(challenge), Reason: reason,
	})
	if err != nil {
		return err
	}
	if _, err := c.Start(ctx, client.NewKey(), service, i.Identity, api.StartRequest{Mandate: proof}); err != nil {
		return err
	}
	end, err := started(ctx, c, &i)
	if err != nil {
		return err
	}
	return output.write(std.out, end, func(w io.Writer, _ bool) error {
		_, err := fmt.Fprintln(w, clean(fmt.Sprintf("%s (%s) serves %s@%d on your word; the log has it once a quorum of voters is back", end.Name, end.DataCenter, service, end.Term)))
		return err
	})
}

// waitingInstance finds the instance, which has to wait for voters.
func waitingInstance(ctx context.Context, c *client.Client, service, name string) (found api.Instance, err error) {
	list, err := c.Instances(ctx, service)
	if err != nil {
		return found, err
	}
	known := false
	for _, i := range list {
		if i.Name != name && i.Identity != name {
			continue
		}
		known = true
		if i.Challenge != "" {
			return i, nil
		}
		found = i
	}
	if !known {
		return found, fmt.Errorf("%w: no instance %q of %s (signalbox instance list)", signalbox.ErrUnknown, name, service)
	}
	return found, fmt.Errorf("%w: %s is %s and does not wait for voters after a start: there is nothing to attest", signalbox.ErrConflict, found.Name, found.State)
}

// started waits until the instance serves.
func started(ctx context.Context, c *client.Client, i *api.Instance) (api.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	last := *i
	for {
		list, err := c.Instances(ctx, i.Service)
		for _, now := range list {
			if now.Identity == i.Identity {
				last = now
			}
		}
		if err == nil && last.Challenge == "" && last.State == "serving" {
			return last, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return last, withCode(exitTimeout, fmt.Errorf("%s does not serve yet: it is %s: %s (signalbox instance list; the agent's log says what it made of the attest)", last.Name, last.State, last.Problem))
		}
	}
}
