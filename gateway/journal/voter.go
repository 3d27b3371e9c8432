package journal

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Voter decides what is next in the log. This one is the whole voter set;
// with more voters, agreement stands behind the same method.
type Voter struct {
	journal *Journal
	scheme  signature.Scheme
	epoch   uint64
	name    string
	key     ed25519.PrivateKey
	now     func() time.Time
}

// NewVoter returns the voter that writes into a journal. scheme must hold the
// voter's key, and key is the same one, for answers.
func NewVoter(j *Journal, scheme signature.Scheme, epoch uint64, name string, key ed25519.PrivateKey, now func() time.Time) *Voter {
	return &Voter{journal: j, scheme: scheme, epoch: epoch, name: name, key: key, now: now}
}

// Propose has a request decided: checked against the whole log, signed, and on
// disk before it returns. A handover whose id is in the log already is returned
// as it was decided. Errors are those of Ledger.Check, or ErrUnavailable.
func (v *Voter) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	v.journal.write.Lock()
	defer v.journal.write.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if v.journal.Restored() {
		return nil, fmt.Errorf("%w: the voter's journal was restored from a backup and has not caught up with every other gateway yet", signalbox.ErrUnavailable)
	}
	if r.Handover != nil {
		b, err := v.journal.Handover(r.Handover.ID)
		if err == nil || !errors.Is(err, signalbox.ErrUnknown) {
			return b, err
		}
	}
	var err error
	block := &signalbox.Block{Cluster: v.journal.trust.Cluster, Epoch: v.epoch, At: v.now(), Requests: []signalbox.Request{r}}
	v.journal.View(func(l *handover.Ledger) {
		err = l.Check(&r)
		block.Index, block.Prev = l.Index()+1, l.Digest()
	})
	if err != nil {
		return nil, err
	}
	decided, err := v.sign(block)
	if err != nil {
		return nil, err
	}
	return decided, v.journal.appendLocked(decided)
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
	if v.journal.Restored() {
		return nil, fmt.Errorf("%w: the voter's journal was restored and has not caught up", signalbox.ErrUnavailable)
	}
	a := rpc.Answer{Voter: v.name, Service: s, Identity: id, Nonce: nonce}
	v.journal.View(func(l *handover.Ledger) {
		if st := l.Service(s); st != nil && st.Newest != nil {
			h := st.Newest.Handover(s)
			a.Index, a.Block, a.Allowed, a.Term = st.Newest.Index, st.Newest.Digest, h.Allowed, h.Term
		}
	})
	return rpc.SealAnswer(v.journal.trust.Cluster, a, v.key)
}
