package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func newJournalCommand(std stdio) *cobra.Command {
	return group("journal", "Verify, back up and restore the agreed log", groupSetup,
		newJournalVerifyCommand(std), newBackupCommand(std), newJournalRestoreCommand(std))
}

// journalReport is what journal verify and restore print.
type journalReport struct {
	File     string           `json:"file"`
	Cluster  string           `json:"cluster"`
	Block    uint64           `json:"block"`
	Digest   string           `json:"digest"`
	Records  int              `json:"records"`
	Restored bool             `json:"restored"`
	First    uint64           `json:"first_block"`
	Snapshot *journalSnapshot `json:"snapshot,omitempty"`
	Services []journalService `json:"services"`
}

type journalService struct {
	Service     string   `json:"service"`
	Master      string   `json:"master"`
	Term        uint64   `json:"term"`
	Outstanding int      `json:"outstanding"`
	Open        []string `json:"open"`
	Taken       []taken  `json:"responsibility,omitempty"`
}

// journalSnapshot stands for the blocks up to Block.
type journalSnapshot struct {
	Block     uint64 `json:"block"`
	DecidedBy uint64 `json:"decided_by"`
}

// taken is a responsibility that a person took.
type taken struct {
	Block  uint64    `json:"block"`
	By     string    `json:"by"`
	What   string    `json:"what"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

func newJournalVerifyCommand(std stdio) *cobra.Command {
	var config, keys string
	cmd := &cobra.Command{
		Use: "verify [FILE]", Short: "Verify a journal or a backup offline", Args: cobra.MaximumNArgs(1),
		Long: "Verifies every block of a journal against the voters' public keys, and that none is missing, without changing\n" +
			"the file. Where a snapshot stands for the oldest blocks, it verifies that the voters agreed on it, and says which\n" +
			"blocks it has not seen. Without FILE it is the journal of --config, whose gateway must not run. Exit code 0 when\n" +
			"all of it is genuine, 1 when it is not.",
		Example: "  signalbox journal verify journal.backup --keys cluster.json\n  signalbox journal verify --config gateway.yaml",
	}
	cmd.Flags().StringVar(&config, "config", "gateway.yaml", "configuration of the gateway")
	cmd.Flags().StringVar(&keys, "keys", "", "cluster.json, or a bundle or keys directory that holds it; instead of --config, for a FILE")
	output := addOutput(cmd, false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		trust, path, err := journalTrust(config, keys, args)
		if err != nil {
			return err
		}
		s, err := journal.Verify(path, trust)
		if err != nil {
			return withCode(exitFailure, err)
		}
		return output.write(std.out, reportJournal(path, s), func(w io.Writer, _ bool) error { return reportJournal(path, s).print(w) })
	}
	return cmd
}

// journalTrust finds the voters' keys and the journal that is meant.
func journalTrust(config, keys string, args []string) (rpc.Trust, string, error) {
	if keys != "" {
		if len(args) == 0 {
			return rpc.Trust{}, "", usagef("--keys says whose keys, not which file: name the FILE")
		}
		cluster, err := identity.LoadCluster(keys)
		if err != nil {
			return rpc.Trust{}, "", withCode(exitFailure, err)
		}
		trust, err := signature.Trust(cluster)
		return trust, args[0], err
	}
	trust, dir, err := gatewayJournal(config)
	path := filepath.Join(dir, journal.FileName)
	if len(args) > 0 {
		path = args[0]
	}
	return trust, path, err
}

// gatewayJournal is the state directory of a configured gateway with what
// verifies its journal.
func gatewayJournal(config string) (rpc.Trust, string, error) {
	c, err := loadGatewayConfig(config)
	if err != nil {
		return rpc.Trust{}, "", err
	}
	_, cluster, err := c.loadBundle()
	if err != nil {
		return rpc.Trust{}, "", err
	}
	trust, err := signature.Trust(cluster)
	return trust, c.State, err
}

func newJournalRestoreCommand(std stdio) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in the place of a stopped gateway's journal", Args: cobra.ExactArgs(1),
		Long: "Verifies the backup and puts it in the place of the journal of --config; the old one is kept beside it. The\n" +
			"gateway must not run. A restored voter votes again when every other gateway has been asked and none has more.",
		Example: "  signalbox journal restore journal.backup --config gateway.yaml",
	}
	cmd.Flags().StringVar(&config, "config", "gateway.yaml", "configuration of the gateway")
	output := addOutput(cmd, false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		trust, dir, err := gatewayJournal(config)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("restore journal: %w", err)
		}
		if _, err := journal.Restore(args[0], dir, trust); err != nil {
			return withCode(exitFailure, err)
		}
		path := filepath.Join(dir, journal.FileName)
		s, err := journal.Verify(path, trust)
		if err != nil {
			return withCode(exitFailure, err)
		}
		return output.write(std.out, reportJournal(path, s), func(w io.Writer, _ bool) error { return reportJournal(path, s).print(w) })
	}
	return cmd
}

func reportJournal(path string, s journal.Summary) *journalReport {
	r := &journalReport{
		File: path, Cluster: s.Cluster, Block: s.Index, Records: s.Records, Restored: s.Restored, First: s.First, Services: []journalService{},
	}
	if s.Snapshot > 0 {
		r.Snapshot = &journalSnapshot{Block: s.Snapshot, DecidedBy: s.DecidedBy}
	}
	if s.Digest != (signalbox.Digest{}) {
		r.Digest = fmt.Sprintf("%x", s.Digest[:])
	}
	for _, v := range s.Services {
		out := journalService{
			Service: string(v.Service), Master: string(v.Master), Term: uint64(v.Term), Outstanding: v.Outstanding, Open: append([]string{}, v.Open...),
		}
		for _, t := range v.Taken {
			out.Taken = append(out.Taken, taken{Block: t.Index, By: t.By, What: t.What, Reason: t.Reason, At: t.At.UTC()})
		}
		r.Services = append(r.Services, out)
	}
	return r
}

func (r *journalReport) print(w io.Writer) error {
	blocks := fmt.Sprintf("%d blocks", r.Block)
	if r.First > 1 {
		blocks = fmt.Sprintf("up to block %d", r.Block)
	}
	fmt.Fprintf(w, "%s: genuine: cluster %s, %s, %d records of handovers\n", r.File, r.Cluster, blocks, r.Records)
	if r.Snapshot != nil && r.First > 1 {
		fmt.Fprintf(w, "A snapshot stands for blocks 1 to %d: the voters agreed on it in block %d. Verified are their signatures, what the\n"+
			"snapshot says of certificates, and every block from %d on; those up to %d are not in this file, and what they\n"+
			"said cannot be checked from it.\n", r.Snapshot.Block, r.Snapshot.DecidedBy, r.First, r.First-1)
	}
	if r.Restored {
		fmt.Fprintln(w, "Restored from a backup: its voter votes again when every other gateway has been asked and none has more.")
	}
	if len(r.Services) == 0 {
		return nil
	}
	lines := [][]string{{"SERVICE", "MASTER", "TERM", "OUTSTANDING", "OPEN HANDOVERS"}}
	for _, s := range r.Services {
		master, open := cmp.Or(s.Master, "-"), cmp.Or(strings.Join(s.Open, ", "), "-")
		lines = append(lines, []string{s.Service, master, fmt.Sprint(s.Term), fmt.Sprint(s.Outstanding), open})
	}
	if err := rows(w, lines); err != nil {
		return err
	}
	for _, s := range r.Services {
		for _, t := range s.Taken {
			fmt.Fprintf(w, "%s: %s %s, %s (block %d): %s\n", s.Service, t.By, t.What, t.At.Format(time.RFC3339), t.Block, t.Reason)
		}
	}
	return nil
}
