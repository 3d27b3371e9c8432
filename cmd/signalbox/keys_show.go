package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/rpc/identity"
)

// bundleView is what keys show says of a bundle; it holds no secret.
type bundleView struct {
	Bundle     string    `json:"bundle"`
	Identity   string    `json:"identity"`
	Cluster    string    `json:"cluster"`
	Role       string    `json:"role"`
	DataCenter string    `json:"data_center,omitempty"`
	Name       string    `json:"name"`
	Votes      bool      `json:"votes"`
	NotAfter   time.Time `json:"not_after"`
	RenewBy    time.Time `json:"renew_by"`
	State      string    `json:"state"`
	// Authorities are the ends of the trusted CAs; two while a CA is replaced.
	Authorities []time.Time `json:"authorities_not_after"`
	GossipKeys  int         `json:"gossip_keys"`
}

func viewBundle(b *identity.Bundle, now time.Time) bundleView {
	v := bundleView{
		Bundle: b.Dir, Identity: b.Self.String(), Cluster: b.Self.Cluster, Role: string(b.Self.Role),
		DataCenter: string(b.Self.DataCenter), Name: b.Self.Name, Votes: b.Voter != nil,
		NotAfter: b.NotAfter, RenewBy: b.RenewBy(), State: "valid", GossipKeys: len(b.Gossip),
	}
	switch {
	case now.After(b.NotAfter):
		v.State = "expired: signalbox keys rotate " + b.Dir
	case now.Before(b.NotBefore):
		v.State = "not valid yet: check the clock"
	case now.After(v.RenewBy):
		v.State = "renew now: signalbox keys rotate " + b.Dir
	}
	for _, ca := range b.Authorities {
		v.Authorities = append(v.Authorities, ca.NotAfter)
	}
	return v
}

func newKeysShowCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show BUNDLE...", Short: "Show whose bundles these are and how long they are valid",
		Long: "Shows whose bundles these are and how long they are valid. Exit code 1 when one cannot be used now.",
		Args: cobra.MinimumNArgs(1),
	}
	output := addOutput(cmd, false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var views []bundleView
		unusable := false
		for _, dir := range args {
			b, err := identity.Inspect(dir)
			if err != nil {
				return withCode(exitFailure, err)
			}
			v := viewBundle(b, time.Now())
			unusable = unusable || strings.HasPrefix(v.State, "expired") || strings.HasPrefix(v.State, "not valid")
			views = append(views, v)
		}
		err := output.write(std.out, views, func(w io.Writer, _ bool) error {
			lines := [][]string{{"IDENTITY", "VOTES", "VALID UNTIL", "CAS", "STATE"}}
			for _, v := range views {
				lines = append(lines, []string{v.Identity, yesNo(v.Votes), v.NotAfter.Format(time.DateOnly), fmt.Sprint(len(v.Authorities)), v.State})
			}
			return rows(w, lines)
		})
		if err == nil && unusable {
			err = &exitError{code: exitFailure}
		}
		return err
	}
	return cmd
}
