package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// verdict is what verify prints: everything in it was verified.
type verdict struct {
	Verified bool                    `json:"verified"`
	Subject  rpc.CertificateDocument `json:"subject"`
	// Epoch numbers the voter set; Changes say how it came from the first one.
	Epoch   uint64   `json:"epoch"`
	Changes []string `json:"changes,omitempty"`
	// Voters are those that signed, Quorum how many had to.
	Voters []string `json:"voters"`
	Quorum int      `json:"quorum"`
	Of     int      `json:"of"`
	// Scheme is how they signed.
	Scheme string `json:"scheme"`
	// Serving are the identities that may serve the term by the block itself.
	Serving   []string `json:"serving"`
	Proves    []string `json:"proves"`
	NotProven []string `json:"not_proven"`
}

func newVerifyCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify CERTIFICATE", Short: "Verify a certificate offline and say what it proves", GroupID: groupDaily,
		Long: "Verifies a certificate with nothing but the voters' public keys: no network, no gateway. CERTIFICATE is\n" +
			"a JSON document as the API hands it out, or the raw bytes; - is standard input. Exit code 0 when it is\n" +
			"genuine, 1 when it is not.",
		Example: "  signalbox verify orders-8.json --keys cluster.json",
		Args:    cobra.ExactArgs(1),
	}
	keys := cmd.Flags().String("keys", "", "cluster.json, or a bundle or keys directory that holds it")
	_ = cmd.MarkFlagRequired("keys") // fails for a flag that is not there only
	output := addOutput(cmd, false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		cluster, err := identity.LoadCluster(*keys)
		if err != nil {
			return withCode(exitFailure, err)
		}
		data, err := readCertificateFile(std.in, args[0])
		if err != nil {
			return withCode(exitFailure, fmt.Errorf("read certificate: %w", err))
		}
		v, err := verify(cluster, data)
		if err != nil {
			return withCode(exitFailure, fmt.Errorf("%s proves nothing: %w", args[0], err))
		}
		return output.write(std.out, v, func(w io.Writer, _ bool) error { return v.print(w) })
	}
	return cmd
}

func readCertificateFile(stdin io.Reader, path string) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, rpc.MaxCertificateDocument+1))
}

func verify(cluster *identity.Cluster, data []byte) (*verdict, error) {
	raw, err := rpc.DecodeCertificateJSON(data)
	if err != nil {
		return nil, err
	}
	trust, err := signature.Trust(cluster)
	if err != nil {
		return nil, err
	}
	cert, err := rpc.OpenCertificate(trust, raw)
	if err != nil {
		return nil, err
	}
	scheme, sig, err := rpc.QuorumOf(cert.Block)
	if err != nil {
		return nil, err
	}
	set, _ := trust.Epochs.Of(cert.Block.Epoch) // known: the block verified by it
	v := &verdict{
		Verified: true, Subject: rpc.NewCertificateDocument(cert), Quorum: set.Quorum(), Of: len(set.Voters), Scheme: scheme,
		Epoch: set.Epoch, Serving: serving(cert), NotProven: notProven(cert), Voters: trust.SignersOf(set.Epoch, sig),
	}
	for epoch := cluster.Epoch + 1; epoch <= set.Epoch; epoch++ {
		changed, _ := trust.Epochs.Of(epoch)
		v.Changes = append(v.Changes, fmt.Sprintf("The voters of epoch %d agreed that from epoch %d on those are: %s.", epoch-1, epoch, strings.Join(changed.Names(), ", ")))
	}
	v.Proves = v.proofs(cert)
	return v, nil
}

// serving names who may serve the term by the block alone.
func serving(c *signalbox.Certificate) (who []string) {
	h := c.Handover()
	if !c.IsFallback() {
		for _, id := range h.Incoming {
			who = append(who, string(id))
		}
		return who
	}
	for _, e := range h.Roster {
		if e.DataCenter == h.From {
			who = append(who, fmt.Sprintf("%s (%s)", e.Name, e.Identity))
		}
	}
	return who
}

func (v *verdict) proofs(c *signalbox.Certificate) []string {
	h, s := c.Handover(), v.Subject
	out := []string{fmt.Sprintf("Service %s of cluster %s: from term %d on, data center %s is master, and only instances that the block lists or that are admitted to this term may serve.",
		s.Service, s.Cluster, s.Term, s.DataCenter)}
	out = append(out, fmt.Sprintf("Agreed by %d of %d voters (%s); a quorum is %d; signed as %s. Block %d of the log, %s, handover %s.",
		len(v.Voters), v.Of, strings.Join(v.Voters, ", "), v.Quorum, v.Scheme, s.Index, s.Block[:12], s.Handover))
	out = append(out, v.Changes...)
	switch {
	case c.IsFallback():
		out = append(out, fmt.Sprintf("The handover from %s to %s at term %d was given up: it can never be certified, because a refuse and an ack exclude each other.", h.From, h.To, h.Term))
	case len(h.Roster) == 0 && h.From == "":
		out = append(out, "The running service was adopted: there was no master before, so nobody had to step down.")
	case len(h.Roster) == 0:
		out = append(out, "Nobody outside the new master could still serve, so nobody had to step down.")
	default:
		out = append(out, fmt.Sprintf("Each of the %d identities that could still serve an older term gave evidence that it will not:", len(h.Roster)))
	}
	for _, e := range c.Evidence {
		entry, _ := h.Entry(e.Identity)
		out = append(out, fmt.Sprintf("  %s in %s (%s, admission %d): %s", entry.Name, entry.DataCenter, e.Identity, entry.Admission, inWords(e)))
	}
	return out
}

func inWords(s signalbox.Evidence) string {
	w := s.Witness
	switch s.Kind {
	case signalbox.SaysLapse:
		return fmt.Sprintf("lapse: a quorum of voters (%s) promised it no lease below term %d and waited until every lease it could hold had run out", strings.Join(w.By, ", "), s.Term)
	case signalbox.SaysFence:
		return fmt.Sprintf("fence: gateways %s had the fencing plugin %q confirm that it is off or cut off (SHA-256 of the plugin's output %x)", strings.Join(w.By, ", "), w.Plugin, w.Output[:])
	case signalbox.SaysAttest:
		return fmt.Sprintf("attest: operator %s took responsibility that it does not serve below term %d, on %s: %q", w.By[0], s.Term, w.At.UTC().Format(time.RFC3339), w.Reason)
	case signalbox.SaysAck:
		return fmt.Sprintf("ack: it drained, wrote down that it never serves below term %d again, and signed", s.Term) + reached(s)
	case signalbox.SaysLeave:
		return fmt.Sprintf("leave: it had stopped in order (highest block it answered: term %d) and serves no more until it is admitted again", s.Term) + reached(s)
	case signalbox.SaysRefuse:
		return fmt.Sprintf("refuse: it said no to term %d and went on serving; one refuse is enough", s.Term)
	}
	return s.Kind.String()
}

// reached is what the instance's data had reached, where its driver said so.
func reached(s signalbox.Evidence) string {
	if len(s.Position) == 0 {
		return ""
	}
	return "; its data had reached " + strconv.Quote(s.Position.String())
}

func notProven(c *signalbox.Certificate) []string {
	out := []string{
		"That this is still the newest term: a later certificate supersedes this one.",
		"When it happened: the time in the block is its proposer's clock.",
		"That requests were held and none failed: that is in the cutover report.",
	}
	if h := c.Handover(); h.By != "" || h.Reason != "" {
		out = append(out, "That the reason given is true: voters signed that it was given, by whom the gateway said.")
	}
	for _, e := range c.Evidence {
		if e.Kind == signalbox.SaysAttest {
			out = append(out, "That an attested instance really is off: a person said so, and nobody else.")
			break
		}
	}
	return append(out, "That an instance did as it signed: instances and agents are trusted, gateways need not be.")
}

func (v *verdict) print(w io.Writer) error {
	s := v.Subject
	fmt.Fprintf(w, "VERIFIED: %s@%d, master %s\n\nProven:\n", s.Service, s.Term, s.DataCenter)
	for _, line := range v.Proves {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintf(w, "  May serve by the block itself: %s\n", strings.Join(v.Serving, ", "))
	fmt.Fprintf(w, "\nRecorded: proposed %s", s.At.Format(time.RFC3339Nano))
	if s.By != "" {
		fmt.Fprintf(w, " by %q", s.By)
	}
	if s.Reason != "" {
		fmt.Fprintf(w, ", reason %q", s.Reason)
	}
	fmt.Fprint(w, "\n\nNot proven:\n")
	for _, line := range v.NotProven {
		fmt.Fprintf(w, "  %s\n", line)
	}
	return nil
}
