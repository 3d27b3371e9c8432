package journal

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Voter decides what is next in the log. This one is the whole voter set; a
// Member is one of several.
type Voter struct {
	journal *Journal
	scheme  signature.Scheme
	epoch   uint64
	name    string
	key     ed25519.PrivateKey
	now     func() time.Time
	// stop ends granting leases until a slot is decided, durably; nil: it grants none.
	stop func(slot uint64) error
}

// NewVoter returns the voter that writes into a journal. scheme must hold the
// voter's key, and key is the same one, for answers.
func NewVoter(j *Journal, scheme signature.Scheme, epoch uint64, name string, key ed25519.PrivateKey, now func() time.Time) *Voter {
	return &Voter{journal: j, scheme: scheme, epoch: epoch, name: name, key: key, now: now}
}

// Propose has a request decided: checked against the whole log, signed, and on
// disk before it returns. A handover whose id is in the log already is returned
// as it was decided. Errors are those of Ledger.CheckAt, or ErrUnavailable.
func (v *Voter) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	v.journal.write.Lock()
	defer v.journal.write.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := v.mayVote(); err != nil {
		return nil, err
	}
	if r.Handover != nil {
		b, err := v.journal.decided(r.Handover)
		if b != nil || err != nil {
			return b, err
		}
	}
	var err error
	block := &signalbox.Block{Cluster: v.journal.trust.Cluster, Epoch: v.epoch, At: v.now(), Requests: []signalbox.Request{r}}
	v.journal.View(func(l *handover.Ledger) {
		err = l.CheckBlock(block, block.At)
		block.Index, block.Prev = l.Index()+1, l.Digest()
	})
	if err != nil {
		return nil, err
	}
	if err := v.prepareVoters(block); err != nil {
		return nil, err
	}
	decided, err := v.sign(block)
	if err != nil {
		return nil, err
	}
	if err := v.journal.appendLocked(decided); err != nil {
		return nil, err // its signature must not get out
	}
	return decided, nil
}

// prepareVoters: before this voter signs that others decide, it grants no leases any
// more, and has it on disk that as one of several it would have forgotten nothing.
func (v *Voter) prepareVoters(b *signalbox.Block) error {
	if b.Voters() == nil {
		return nil
	}
	if v.stop != nil {
		if err := v.stop(b.Index); err != nil {
			return fmt.Errorf("stop granting leases: %w", err)
		}
	}
	return v.journal.begin()
}

// decided returns the block of a handover that is in the log already, nil when
// its id is new. ErrConflict: the id is another handover's.
func (j *Journal) decided(h *signalbox.Handover) (*signalbox.DecidedBlock, error) {
	var have handover.DecidedHandover
	var known bool
	j.View(func(l *handover.Ledger) { have, known = l.Decided(h.ID) })
	switch {
	case !known:
		return nil, nil
	case have.Service != h.Service || have.From != h.From || have.To != h.To:
		return nil, fmt.Errorf("%w: the id %q is another handover's (block %d); use a new one", signalbox.ErrConflict, h.ID, have.Index)
	case !j.Has(have.Index):
		return nil, fmt.Errorf("%w: the handover %q was decided long ago (block %d, which is not kept any more); use a new id", signalbox.ErrConflict, h.ID, have.Index)
	}
	return j.Block(have.Index)
}

func (v *Voter) mayVote() error { return v.journal.mayVote() }

// mayVote: what this voter voted for before must be in its journal (rules 8, 9).
func (j *Journal) mayVote() error {
	if err := j.Failed(); err != nil {
		return err
	}
	if j.Restored() {
		return fmt.Errorf("%w: the voter's journal is empty or from a backup, and the other gateways have to be asked first whether they have more; start them", signalbox.ErrUnavailable)
	}
	return nil
}

func (v *Voter) sign(block *signalbox.Block) (*signalbox.DecidedBlock, error) {
	raw, err := rpc.EncodeBlock(block)
	if err != nil {
		return nil, err
	}
	share, err := v.scheme.Sign(rpc.SigningInput(rpc.DomainBlock, block.Cluster, raw))
	if err != nil {
		return nil, fmt.Errorf("sign block: %w", err)
	}
	combined, err := v.scheme.Combine([]signature.Share{share})
	if err != nil {
		return nil, fmt.Errorf("combine signatures: %w", err)
	}
	return rpc.SealBlock(raw, v.scheme.Name(), combined)
}

// Answer replies to an instance's question with the newest handover block of
// its service that this voter voted for, signed (interlock rule 2).
func (v *Voter) Answer(s signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error) {
	if len(nonce) != rpc.NonceSize {
		return nil, fmt.Errorf("%w: nonce has %d bytes, want %d", signalbox.ErrInvalid, len(nonce), rpc.NonceSize)
	}
	if err := v.mayVote(); err != nil {
		return nil, err
	}
	var a rpc.Answer
	var err error
	v.journal.View(func(l *handover.Ledger) {
		a = l.Answer(s, id)
		if now := l.Voters().Epoch; now > v.epoch {
			err = fmt.Errorf("%w: the voters were changed", signalbox.ErrUnavailable)
		}
	})
	if err != nil {
		return nil, err
	}
	a.Voter, a.Nonce, a.Epoch = v.name, nonce, v.epoch
	return rpc.SealAnswer(v.journal.trust.Cluster, a, v.key)
}
