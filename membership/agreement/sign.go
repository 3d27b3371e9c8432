package agreement

import (
	"encoding/binary"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// What is signed begins with one of these; vote 2's begins with 0
// (rpc.DecisionInput).
const (
	signsVoteOne = 1
	signsTimeout = 2
)

// signed is the fixed layout of what votes 1 and timeouts sign: kind, epoch,
// slot, view, then the digest or the view of the newest certificate.
func (c *Config) signed(kind byte, slot, view uint64, rest []byte) []byte {
	epoch := c.Epoch
	if !c.holds(EpochSigned) {
		epoch = 0
	}
	if !c.holds(SlotSigned) {
		slot = 0
	}
	p := make([]byte, 1, 1+3*8+len(rest))
	p[0] = kind
	p = binary.BigEndian.AppendUint64(p, epoch)
	p = binary.BigEndian.AppendUint64(p, slot)
	p = binary.BigEndian.AppendUint64(p, view)
	return rpc.SigningInput(rpc.DomainAgreement, c.Cluster, append(p, rest...))
}

func (c *Config) voteOneInput(slot, view uint64, d signalbox.Digest) []byte {
	return c.signed(signsVoteOne, slot, view, d[:])
}

func (c *Config) timeoutInput(slot, view, high uint64) []byte {
	return c.signed(signsTimeout, slot, view, binary.BigEndian.AppendUint64(nil, high))
}

// voteTwoInput is what a decided block's envelope is verified against. The
// block names cluster, epoch and slot.
func (c *Config) voteTwoInput(view uint64, value []byte) []byte {
	if !c.holds(ViewInDecision) {
		view = 0
	}
	return rpc.DecisionInput(c.Cluster, view, value)
}

// verifyShare checks one voter's share.
func (c *Config) verifyShare(voter int, input, share []byte) error {
	return c.Scheme.VerifyShare(input, signature.Share{Voter: voter, Signature: share})
}

// verifyCertified checks a certificate of votes 1.
func (c *Config) verifyCertified(slot uint64, q *Quorum) error {
	if q.View == 0 {
		return fmt.Errorf("%w: certificate of view 0", signalbox.ErrInvalid)
	}
	if err := c.Scheme.VerifyQuorum(c.Scheme.Name(), c.voteOneInput(slot, q.View, q.Digest), q.Signature); err != nil {
		return fmt.Errorf("certificate of view %d: %w", q.View, err)
	}
	return nil
}

// verifyChange checks that a quorum of distinct voters ended the view.
func (c *Config) verifyChange(slot uint64, ch *Change) error {
	seen := map[int]bool{}
	for _, e := range ch.Ended {
		if e.Voter < 0 || e.Voter >= c.Voters || e.High > ch.View {
			return fmt.Errorf("%w: view change names voter %d with a certificate of view %d", signalbox.ErrInvalid, e.Voter, e.High)
		}
		if seen[e.Voter] && c.holds(ChangeIsQuorum) {
			return fmt.Errorf("%w: view change names voter %d twice", signalbox.ErrInvalid, e.Voter)
		}
		seen[e.Voter] = true
		if !c.holds(ChangeIsSigned) {
			continue
		}
		if err := c.verifyShare(e.Voter, c.timeoutInput(slot, ch.View, e.High), e.Share); err != nil {
			return fmt.Errorf("view change: %w", err)
		}
	}
	if ch.View == 0 || len(ch.Ended) < c.quorum() {
		return fmt.Errorf("%w: %d voters ended view %d, %d are needed", signalbox.ErrUntrusted, len(ch.Ended), ch.View, c.quorum())
	}
	return nil
}
