package journal

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
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

	mu      sync.Mutex
	asks    []*ask       // that wait for the next block, oldest first; guarded by mu
	waiting atomic.Int64 // calls of Propose that wait
}

// NewVoter returns the voter that writes into a journal. scheme must hold the
// voter's key, and key is the same one, for answers.
func NewVoter(j *Journal, scheme signature.Scheme, epoch uint64, name string, key ed25519.PrivateKey, now func() time.Time) *Voter {
	return &Voter{journal: j, scheme: scheme, epoch: epoch, name: name, key: key, now: now}
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
