package rpc

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// BuildCertificate joins a decided block with evidence into the certificate of
// term, and verifies what it built: an error says which evidence is missing.
func BuildCertificate(trust Trust, block *signalbox.DecidedBlock, service signalbox.Service, term signalbox.Term, evidence [][]byte) (*signalbox.Certificate, error) {
	raw, err := proto.Marshal(&wire.Certificate{
		Service: string(service), Term: uint64(term), Decided: block.Raw, Evidence: evidence, Voters: chainFor(trust, block, evidence),
	})
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return OpenCertificate(trust, raw)
}

// chainFor returns the changes of voters that lead to those who signed the block
// and its evidence.
func chainFor(trust Trust, block *signalbox.DecidedBlock, evidence [][]byte) [][]byte {
	if trust.Epochs == nil {
		return nil
	}
	newest := block.Epoch
	for _, raw := range evidence {
		newest = max(newest, lapseEpoch(raw), fenceEpoch(trust.Epochs, block.Epoch, raw))
	}
	return trust.Epochs.Chain(newest)
}

// learnFrom takes in the changes of voters that a certificate carries.
func learnFrom(trust Trust, chain [][]byte) error {
	size := 0
	for _, raw := range chain {
		if size += len(raw); size > MaxChain {
			return fmt.Errorf("%w: a certificate with more than %d bytes of changes of voters", signalbox.ErrInvalid, MaxChain)
		}
	}
	if trust.Epochs == nil {
		return nil
	}
	known := trust.Epochs.Chain(0)
	for i, raw := range chain {
		if i < len(known) && bytes.Equal(raw, known[i]) {
			continue
		}
		if err := trust.Epochs.Learn(trust, raw); err != nil {
			return err
		}
	}
	return nil
}

// OpenCertificate verifies a certificate with nothing but the trust: the
// quorum's signatures over the block, and evidence for the whole roster (or one
// refuse, for a fallback). The error names what does not fit.
func OpenCertificate(trust Trust, raw []byte) (*signalbox.Certificate, error) {
	if len(raw) == 0 || len(raw) > MaxCertificate {
		return nil, fmt.Errorf("%w: certificate has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxCertificate)
	}
	var m wire.Certificate
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", signalbox.ErrInvalid, err)
	}
	if len(m.Evidence) > signalbox.MaxRoster {
		return nil, fmt.Errorf("%w: certificate carries %d pieces of evidence, at most %d", signalbox.ErrInvalid, len(m.Evidence), signalbox.MaxRoster)
	}
	if err := learnFrom(trust, m.Voters); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	block, err := OpenBlock(trust, m.Decided)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c := &signalbox.Certificate{Block: block, Service: signalbox.Service(m.Service), Term: signalbox.Term(m.Term), Raw: raw}
	h := c.Handover()
	if h == nil {
		return nil, fmt.Errorf("%w: the block has no handover of service %q", signalbox.ErrInvalid, m.Service)
	}
	if c.Evidence, err = openEvidence(trust, h, m.Evidence); err == nil {
		err = inTime(block, c.Evidence)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of %s@%d: %w", m.Service, m.Term, err)
	}
	switch c.Term {
	case 0:
		return nil, fmt.Errorf("%w: certificate of term 0", signalbox.ErrInvalid)
	case h.Term:
		err = checkForward(h, block.Digest, c.Evidence)
	case h.Fallback:
		err = checkFallback(h, block.Digest, c.Evidence)
	default:
		err = fmt.Errorf("%w: the block is of term %d (fallback %d)", signalbox.ErrUntrusted, h.Term, h.Fallback)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of %s@%d: %w", m.Service, m.Term, err)
	}
	return c, nil
}

func openEvidence(trust Trust, h *signalbox.Handover, raw [][]byte) ([]signalbox.Evidence, error) {
	keys := func(id signalbox.Identity) ed25519.PublicKey {
		e, ok := h.Entry(id)
		if !ok {
			return nil
		}
		return e.PublicKey
	}
	var out []signalbox.Evidence
	for _, r := range raw {
		e, err := OpenEvidence(trust, r, keys)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// inTime refuses what voters signed who were replaced before the block: their
// keys may be anybody's by now.
func inTime(block *signalbox.DecidedBlock, evidence []signalbox.Evidence) error {
	for _, e := range evidence {
		if e.Witness != nil && e.Witness.Epoch != 0 && e.Witness.Epoch < block.Epoch {
			return fmt.Errorf("%w: %s of %s is by voter set %d, the block by set %d", signalbox.ErrUntrusted, e.Kind, e.Identity, e.Witness.Epoch, block.Epoch)
		}
	}
	return nil
}

func checkForward(h *signalbox.Handover, digest signalbox.Digest, evidence []signalbox.Evidence) error {
	proven := map[signalbox.Identity]bool{}
	for _, e := range evidence {
		entry, _ := h.Entry(e.Identity)
		if err := Proves(h, digest, entry, e.Statement); err != nil {
			return err
		}
		proven[e.Identity] = true
	}
	for _, entry := range h.Roster {
		if !proven[entry.Identity] {
			return fmt.Errorf("%w: no evidence for %s (%s)", signalbox.ErrUntrusted, entry.Name, entry.Identity)
		}
	}
	return nil
}

func checkFallback(h *signalbox.Handover, digest signalbox.Digest, evidence []signalbox.Evidence) error {
	if !h.Voidable() {
		return fmt.Errorf("%w: the block cannot be voided", signalbox.ErrUntrusted)
	}
	for _, e := range evidence {
		if entry, ok := h.Entry(e.Identity); ok && Voids(h, digest, entry, e.Statement) {
			return nil
		}
	}
	return fmt.Errorf("%w: no refuse of the block", signalbox.ErrUntrusted)
}

// Proves returns nil when a (verified) statement is evidence that the roster
// entry's identity will not serve below the handover's term: an ack of exactly
// this block, a leave of exactly this admission that answered no block as high
// as this one (interlock rule 4), or what others signed for exactly this block
// and admission. A lapse counts only where every term that the identity could
// serve uses leases.
func Proves(h *signalbox.Handover, digest signalbox.Digest, entry signalbox.RosterEntry, s signalbox.Statement) error {
	switch {
	case s.Service != h.Service || s.Identity != entry.Identity:
		return fmt.Errorf("%w: statement is about %s of %s", signalbox.ErrUntrusted, s.Identity, s.Service)
	case s.Admission != entry.Admission:
		return fmt.Errorf("%w: %s of %s is for admission %d, the roster has %d", signalbox.ErrUntrusted, s.Kind, entry.Name, s.Admission, entry.Admission)
	case s.Kind == signalbox.SaysAck && h.Allowed.Has(signalbox.Ack):
		if s.Block != digest || s.Term != h.Term {
			return fmt.Errorf("%w: ack of %s is for block %s at term %d", signalbox.ErrUntrusted, entry.Name, s.Block, s.Term)
		}
		return nil
	case s.Kind == signalbox.SaysLeave && h.Allowed.Has(signalbox.Leave):
		if s.Term >= h.Term {
			return fmt.Errorf("%w: leave of %s came after it answered term %d", signalbox.ErrUntrusted, entry.Name, s.Term)
		}
		return nil
	case s.Kind.ByOthers() && h.Allowed.Has(s.Kind.Evidence()):
		return testifies(h.Term, digest, entry, s)
	}
	return fmt.Errorf("%w: a %s is no evidence the block allows (%s)", signalbox.ErrUntrusted, s.Kind, h.Allowed)
}

// ProvesRemoval returns nil when a (verified) statement of others is evidence
// for a removal that the block with this digest announced. entry is whom the log
// names as outstanding.
func ProvesRemoval(r *signalbox.Removal, digest signalbox.Digest, entry signalbox.RosterEntry, s signalbox.Statement) error {
	switch {
	case s.Service != r.Service || s.Identity != entry.Identity || r.Identity != entry.Identity:
		return fmt.Errorf("%w: statement is about %s of %s", signalbox.ErrUntrusted, s.Identity, s.Service)
	case s.Admission != entry.Admission || r.Admission != entry.Admission:
		return fmt.Errorf("%w: %s of %s is for admission %d, the log has %d", signalbox.ErrUntrusted, s.Kind, entry.Name, s.Admission, entry.Admission)
	case !s.Kind.ByOthers() || !r.Allowed.Has(s.Kind.Evidence()):
		return fmt.Errorf("%w: a %s is no evidence that the announced removal allows (%s)", signalbox.ErrUntrusted, s.Kind, r.Allowed)
	}
	return testifies(r.Below, digest, entry, s)
}

// testifies checks what is common to others' evidence for a block.
func testifies(below signalbox.Term, digest signalbox.Digest, entry signalbox.RosterEntry, s signalbox.Statement) error {
	switch {
	case s.Block != digest || s.Term != below:
		return fmt.Errorf("%w: %s of %s is for block %s below term %d", signalbox.ErrUntrusted, s.Kind, entry.Name, s.Block, s.Term)
	case s.Kind == signalbox.SaysLapse && !entry.Leased:
		return fmt.Errorf("%w: lapse of %s, which could serve a term without leases", signalbox.ErrUntrusted, entry.Name)
	}
	return nil
}

// Voids reports whether a (verified) statement is a refuse of exactly this
// block by this roster entry, and the block can be voided (interlock rule 5).
func Voids(h *signalbox.Handover, digest signalbox.Digest, entry signalbox.RosterEntry, s signalbox.Statement) bool {
	return h.Voidable() && s.Kind == signalbox.SaysRefuse && s.Service == h.Service && s.Identity == entry.Identity &&
		s.Block == digest && s.Term == h.Term && s.Admission == entry.Admission
}
