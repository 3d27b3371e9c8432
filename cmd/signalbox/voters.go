package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func newVotersCommand(std stdio) *cobra.Command {
	return group("voters", "Show and change which gateways vote", "", newVotersListCommand(std), newVotersChangeCommand(std))
}

func newVotersListCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "Show who votes, and which gateways could", Args: cobra.NoArgs,
		Long: "Shows the voters by the log of the gateway that answers, and every gateway with how new its log is and whether\n" +
			"it offers a key to vote with.",
	}
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, _ []string) error {
		v, err := c.Voters(ctx)
		if err != nil {
			return err
		}
		return output.write(std.out, v, func(w io.Writer, _ bool) error { return votersText(w, &v) })
	})
	return cmd
}

func votersText(w io.Writer, v *api.Voters) error {
	survives := "losing any single data center leaves a quorum"
	if !v.Survives {
		survives = "losing a data center can leave no quorum"
	}
	_, err := fmt.Fprintln(w, clean(fmt.Sprintf("epoch %d: %d voters, %d may be away, %d of them lying; a quorum is %d; signatures %s; %s",
		v.Epoch, len(v.Voters), v.Unavailable, v.Lying, v.Quorum, v.Scheme, survives)))
	if err != nil {
		return err
	}
	keys := map[string]string{}
	for _, k := range v.Voters {
		keys[k.Name] = keyText(k.PublicKey)
	}
	var lines [][]string
	for _, g := range v.Gateways {
		log := "not reached"
		if g.Reached {
			if log = fmt.Sprint(g.LogIndex); !g.CaughtUp {
				log += " (behind)"
			}
		}
		next := "none"
		if g.Next != nil {
			next = keyText(g.Next.PublicKey)
		}
		lines = append(lines, []string{g.Name, g.DataCenter, map[bool]string{true: "yes", false: "no"}[g.Votes], keys[g.Name], log, next})
	}
	return table(w, []string{"GATEWAY", "DATA CENTER", "VOTES", "KEY", "LOG", "OFFERS"}, lines)
}

// keyText is a key short enough to be compared by eye.
func keyText(key []byte) string { return hex.EncodeToString(key[:min(len(key), 4)]) }

// votersChange is what a person wants changed.
type votersChange struct {
	add, remove, replace []string
	unavailable, lying   int
	scheme, reason       string
	dryRun               bool
}

func newVotersChangeCommand(std stdio) *cobra.Command {
	var want votersChange
	cmd := &cobra.Command{
		Use: "change", Short: "Change which gateways vote, or with which keys", Args: cobra.NoArgs,
		Long: "Has the voters of now decide who votes after them. The voters number 2u + r + 1: u may be away, r of those may lie;\n" +
			"unless --unavailable and --lying say it, u and r follow from the number. A gateway that is to vote has to run and to\n" +
			"have the whole log. --replace gives a voter a new key: after its disk or key was lost, or to rotate it. The change\n" +
			"is signed with your own key, and stands in the log for ever. Handovers that are open go on.",
		Example: "  signalbox gateway voters change --replace west-1 --reason 'west-1 lost its disk'\n" +
			"  signalbox gateway voters change --add south-1 --add south-2 --lying 1 --unavailable 2 --reason 'third site' --dry-run",
		PreRunE: func(*cobra.Command, []string) error { return want.check() },
	}
	cmd.Flags().StringSliceVar(&want.add, "add", nil, "a gateway that is to vote; may be repeated")
	cmd.Flags().StringSliceVar(&want.remove, "remove", nil, "a gateway that is to vote no more; may be repeated")
	cmd.Flags().StringSliceVar(&want.replace, "replace", nil, "a voter that is to vote with a new key; may be repeated")
	cmd.Flags().IntVar(&want.unavailable, "unavailable", -1, "how many voters may be away (u)")
	cmd.Flags().IntVar(&want.lying, "lying", -1, "how many of those away may lie (r)")
	cmd.Flags().StringVar(&want.scheme, "signatures", "", "how signatures are combined from then on (default as now)")
	cmd.Flags().StringVar(&want.reason, "reason", "", "why; it stands in the log for ever")
	cmd.Flags().BoolVar(&want.dryRun, "dry-run", false, "say whether it would be taken, and change nothing")
	_ = cmd.MarkFlagRequired("reason") // fails for a flag that is not there only
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, _ []string) error {
		by, err := newAttester(cmd)
		if err != nil {
			return err
		}
		v, err := want.bring(ctx, c, by)
		if err != nil {
			return err
		}
		return output.write(std.out, v, func(w io.Writer, _ bool) error {
			if want.dryRun {
				if _, err := fmt.Fprintln(w, "the change would be taken; nothing was changed. Now:"); err != nil {
					return err
				}
			}
			return votersText(w, &v)
		})
	})
	return cmd
}

func (v *votersChange) check() error {
	switch {
	case len(v.add)+len(v.remove)+len(v.replace) == 0 && v.scheme == "" && v.unavailable < 0 && v.lying < 0:
		return usagef("say what is to change: --add, --remove, --replace, --signatures, --unavailable with --lying")
	case (v.unavailable < 0) != (v.lying < 0):
		return usagef("--unavailable and --lying belong together")
	case v.reason == "" || len(v.reason) > signalbox.MaxReason:
		return usagef("--reason: write 1 to %d bytes: it is shown for ever", signalbox.MaxReason)
	}
	return nil
}

// bring makes the change of the voters that a gateway names, signs it and has it
// decided.
func (v *votersChange) bring(ctx context.Context, c *client.Client, by *attester) (api.Voters, error) {
	now, err := c.Voters(ctx)
	if err != nil {
		return now, err
	}
	change, err := v.of(&now)
	if err != nil {
		return now, err
	}
	change.By = by.name
	if err := rpc.SignVoters(by.cluster, change, by.key); err != nil {
		return now, err
	}
	raw, err := rpc.EncodeRequest(&signalbox.Request{Voters: change})
	if err != nil {
		return now, err
	}
	next, err := c.ChangeVoters(ctx, client.NewKey(), raw, v.dryRun)
	if errors.Is(err, signalbox.ErrUnavailable) {
		err = fmt.Errorf("%w; it may be decided still; look before you ask again: signalbox gateway voters list", err)
	}
	return next, err
}

// of makes the next voter set of the one of now.
func (v *votersChange) of(now *api.Voters) (*signalbox.VoterChange, error) {
	c := &signalbox.VoterChange{Reason: v.reason, VoterSet: signalbox.VoterSet{Epoch: now.Epoch + 1, Scheme: now.Scheme}}
	if v.scheme != "" {
		c.Scheme = v.scheme
	}
	have := map[string]bool{}
	for _, k := range now.Voters {
		have[k.Name] = true
	}
	for _, name := range append(slices.Clone(v.remove), v.replace...) {
		if !have[name] {
			return nil, fmt.Errorf("%w: %s does not vote: the voters are %s", signalbox.ErrUnknown, name, strings.Join(voterNames(now), ", "))
		}
	}
	for _, name := range v.replace {
		if slices.Contains(v.remove, name) {
			return nil, fmt.Errorf("%w: %s cannot both be removed and go on with a new key: take --remove or --replace", signalbox.ErrInvalid, name)
		}
	}
	for _, k := range now.Voters {
		switch {
		case slices.Contains(v.remove, k.Name):
		case slices.Contains(v.replace, k.Name):
			next, err := offered(now, k.Name)
			if err != nil {
				return nil, err
			}
			c.Voters = append(c.Voters, next)
		default:
			c.Voters = append(c.Voters, voterOf(k))
		}
	}
	for _, name := range v.add {
		if have[name] {
			return nil, fmt.Errorf("%w: %s votes already; --replace gives it a new key", signalbox.ErrInvalid, name)
		}
		next, err := offered(now, name)
		if err != nil {
			return nil, err
		}
		c.Voters = append(c.Voters, next)
	}
	if c.Unavailable, c.Lying = v.unavailable, v.lying; v.unavailable < 0 {
		c.Unavailable, c.Lying = identity.DefaultFaults(len(c.Voters))
	}
	return c, c.VoterSet.Check()
}

func voterNames(v *api.Voters) (out []string) {
	for _, k := range v.Voters {
		out = append(out, k.Name)
	}
	return out
}

func voterOf(k api.VoterKeys) signalbox.Voter {
	return signalbox.Voter{
		Name: k.Name, DataCenter: signalbox.DataCenter(k.DataCenter), PublicKey: k.PublicKey, SignatureKey: k.SignatureKey,
		SignatureProof: k.SignatureProof, Proof: k.Proof,
	}
}

// offered is a gateway with the new key that it offers.
func offered(now *api.Voters, name string) (signalbox.Voter, error) {
	for _, g := range now.Gateways {
		switch {
		case g.Name != name:
		case !g.Reached:
			return signalbox.Voter{}, fmt.Errorf("%w: gateway %s cannot be reached; start it and wait until it has caught up: signalbox gateway voters list", signalbox.ErrNotReady, name)
		case !g.CaughtUp:
			return signalbox.Voter{}, fmt.Errorf("%w: gateway %s has the log up to block %d only; wait until it has caught up", signalbox.ErrNotReady, name, g.LogIndex)
		case g.Next == nil:
			return signalbox.Voter{}, fmt.Errorf("%w: gateway %s has not offered a key to vote with; is it of this version?", signalbox.ErrNotReady, name)
		default:
			return voterOf(*g.Next), nil
		}
	}
	return signalbox.Voter{}, fmt.Errorf("%w: no gateway %s in the configuration of the gateway that answered; add it first: signalbox keys issue gateway --address", signalbox.ErrUnknown, name)
}
