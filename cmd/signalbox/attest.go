package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// attester signs attests with the operator's own key; the key stays here.
type attester struct {
	cluster, name string
	key           ed25519.PrivateKey
}

// bundleOf reads the bundle that a verb was given.
func bundleOf(cmd *cobra.Command) (*identity.Bundle, error) {
	dir, _ := cmd.Flags().GetString("bundle")
	if dir == "" {
		dir = os.Getenv(envBundle)
	}
	return identity.Load(dir)
}

func newAttester(cmd *cobra.Command) (*attester, error) {
	b, err := bundleOf(cmd)
	if err != nil {
		return nil, err
	}
	if b.Operator == nil {
		return nil, usagef("%s holds no operator's key: attests and changes of voters are signed by people; `signalbox keys issue operator` makes a bundle with one", b.Dir)
	}
	return &attester{cluster: b.Cluster.Name, name: b.Self.Name, key: b.Operator}, nil
}

// sign takes responsibility for one instance.
func (a *attester) sign(m api.Missing, reason string) ([]byte, error) {
	block, err := hex.DecodeString(m.Block)
	if err != nil || len(block) != len(signalbox.Digest{}) {
		return nil, fmt.Errorf("%w: the gateway names the block %.80q", signalbox.ErrInvalid, m.Block)
	}
	return rpc.SealAttest(a.cluster, rpc.Testimony{
		Statement: signalbox.Statement{
			Kind: signalbox.SaysAttest, Service: signalbox.Service(m.Service), Identity: signalbox.Identity(m.Identity),
			Admission: m.Admission, Block: signalbox.Digest(block), Term: signalbox.Term(m.Below),
		},
		Witness: signalbox.Witness{By: []string{a.name}, Reason: reason, At: time.Now()},
	}, a.key)
}

// bring signs and submits.
func (a *attester) bring(ctx context.Context, c *client.Client, m api.Missing, reason string) (api.Submitted, error) {
	raw, err := a.sign(m, reason)
	if err != nil {
		return api.Submitted{}, err
	}
	return c.Submit(ctx, client.NewKey(), raw)
}

// silent attests for those of an open handover whom nobody can reach.
func (a *attester) silent(ctx context.Context, std stdio, c *client.Client, handover, reason string) error {
	list, err := c.Missing(ctx, handover)
	if err != nil {
		return err
	}
	for _, m := range list {
		if !m.Silent {
			fmt.Fprintln(std.err, clean(fmt.Sprintf("%s (%s) can be reached: it is asked for its ack", m.Instance, m.DataCenter)))
			continue
		}
		if _, err := a.bring(ctx, c, m, reason); err != nil {
			return err
		}
		fmt.Fprintln(std.err, clean(fmt.Sprintf("attested for %s (%s)", m.Instance, m.DataCenter)))
	}
	return nil
}

func newInstanceAttestCommand(std stdio) *cobra.Command {
	var service, reason string
	var start bool
	cmd := &cobra.Command{
		Use: "attest INSTANCE --service SERVICE --reason WHY", Short: "Take responsibility: an instance serves no more, or starts without a quorum", Args: cobra.ExactArgs(1),
		Long: "Signs with your own key that an instance is off and stays off until it has asked the voters again. While a\n" +
			"failover is open that waits for the instance, the attest counts for that; else the instance is taken out of\n" +
			"those whose evidence a handover needs. INSTANCE is its name or its identity. The reason is mandatory: it stands\n" +
			"in the certificate or the log, with your name, for ever.\n\n" +
			"Be sure. If the instance still serves, two masters do, and nothing can tell.\n\n" +
			"With --start it is the opposite: an instance that was started again, and waits for a quorum of voters who do not\n" +
			"come, serves on your word. You say that no other data center became master since. It counts for this one start.\n" +
			"Where the service uses leases it starts nothing.",
		Example: "  signalbox instance attest orders-east-2 --service orders --reason 'its host burned, ticket 4711'\n" +
			"  signalbox instance attest orders-east-1 --service orders --start --reason 'west and south are dark, seen on the phone'",
		PreRunE: func(*cobra.Command, []string) error {
			if reason == "" || len(reason) > signalbox.MaxReason {
				return usagef("--reason: write 1 to %d bytes: it is shown for ever", signalbox.MaxReason)
			}
			return checkService(service)
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "the instance's service")
	cmd.Flags().StringVar(&reason, "reason", "", "why you are sure; shown for ever")
	cmd.Flags().BoolVar(&start, "start", false, "start the instance, which waits for a quorum of voters, without one")
	_ = cmd.MarkFlagRequired("service") // fails for a flag that is not there only
	_ = cmd.MarkFlagRequired("reason")
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		if start {
			return startAlone(ctx, cmd, c, std, output, service, args[0], reason)
		}
		by, err := newAttester(cmd)
		if err != nil {
			return err
		}
		m, err := attestable(ctx, c, service, args[0], reason)
		if err != nil {
			return err
		}
		done, err := by.bring(ctx, c, m, reason)
		if err != nil {
			return err
		}
		return output.write(std.out, done, func(w io.Writer, _ bool) error {
			words := fmt.Sprintf("attested for %s (%s); it counts for handover %s", m.Instance, m.DataCenter, done.Handover)
			if done.Removed {
				words = fmt.Sprintf("attested for %s (%s): no handover waits for it any more", m.Instance, m.DataCenter)
			}
			_, err := fmt.Fprintln(w, clean(words))
			return err
		})
	})
	return cmd
}

// attestable finds what an attest for the instance is about: the open handover
// that waits for it, or its removal, which is announced.
func attestable(ctx context.Context, c *client.Client, service, instance, reason string) (api.Missing, error) {
	s, err := c.Service(ctx, service)
	if err != nil {
		return api.Missing{}, err
	}
	if s.Handover == "" {
		return c.Announce(ctx, client.NewKey(), service, instance, reason)
	}
	list, err := c.Missing(ctx, s.Handover)
	if err != nil {
		return api.Missing{}, err
	}
	for _, m := range list {
		if m.Instance != instance && m.Identity != instance {
			continue
		}
		kinds, err := signalbox.ParseEvidenceKinds(m.Allowed)
		if err == nil && !kinds.Has(signalbox.Attest) {
			err = fmt.Errorf("%w: handover %s counts %s; an attest needs a failover: signalbox failover %s --to DC", signalbox.ErrRefused, s.Handover, m.Allowed, service)
		}
		return m, err
	}
	return api.Missing{}, fmt.Errorf("%w: handover %s does not wait for %s: it is no instance of its roster, or its evidence is there", signalbox.ErrConflict, s.Handover, instance)
}
