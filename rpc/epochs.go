package rpc

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"sync"

	"github.com/signalbox-io/signalbox"
)

// MaxChain is how many bytes the blocks that changed the voters may have
// together: every certificate carries them.
const MaxChain = 256 << 10

// Verifiers makes what verifies the signatures of a voter set. An error says why
// the set is none: an unknown scheme, a key whose holder has not proven it.
type Verifiers func(signalbox.VoterSet) (QuorumVerifier, error)

// Epochs knows the voters of every epoch: the first set, and those that the log
// put in its place, each decided by the one before. It only grows. Safe for
// concurrent use.
//
// Guarantees: a set of a later epoch is known only by a block that a quorum of
// the epoch before signed; a block counts only when it lies where its epoch
// decides.
type Epochs struct {
	cluster string
	make    Verifiers

	mu    sync.Mutex
	all   []epoch // by number, from the first one's on
	bytes int
}

// epoch decides the blocks after begins, up to ends (0: it is the newest known).
type epoch struct {
	set          signalbox.VoterSet
	quorum       QuorumVerifier
	begins, ends uint64
	block        []byte // that brought it, verbatim; nil for the first
	digest       signalbox.Digest
}

// NewEpochs begins with a cluster's first voter set.
func NewEpochs(cluster string, first signalbox.VoterSet, verifiers Verifiers) (*Epochs, error) {
	if first.Epoch == 0 {
		return nil, fmt.Errorf("%w: a voter set without an epoch", signalbox.ErrInvalid)
	}
	v, err := verifiers(first)
	if err != nil {
		return nil, err
	}
	return &Epochs{cluster: cluster, make: verifiers, all: []epoch{{set: first, quorum: Remember(v)}}}, nil
}

// First is the set that the cluster began with.
func (e *Epochs) First() signalbox.VoterSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[0].set
}

// Newest is the newest voter set that is known here.
func (e *Epochs) Newest() signalbox.VoterSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[len(e.all)-1].set
}

// Of returns the voter set of an epoch; false when it is not known here.
func (e *Epochs) Of(number uint64) (signalbox.VoterSet, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.at(number)
	if !ok {
		return signalbox.VoterSet{}, false
	}
	return at.set, true
}

func (e *Epochs) at(number uint64) (*epoch, bool) {
	first := e.all[0].set.Epoch
	if number < first || number-first >= uint64(len(e.all)) {
		return nil, false
	}
	return &e.all[number-first], true
}

// quorum returns what verifies an epoch's signatures. With an index it has to be
// one of the blocks that the epoch decides: voters that were replaced, and
// whoever has their keys by now, decide nothing after their time.
func (e *Epochs) quorum(number, index uint64) (QuorumVerifier, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.at(number)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: voter set %d; the newest known here is %d, and the blocks that changed the voters since are needed", signalbox.ErrUnknown, number, e.all[len(e.all)-1].set.Epoch)
	case index != 0 && (index <= at.begins || at.ends != 0 && index > at.ends):
		return nil, fmt.Errorf("%w: block %d of voter set %d, which decides the blocks from %d to %d", signalbox.ErrUntrusted, index, number, at.begins+1, at.ends)
	}
	return at.quorum, nil
}

// Learn takes a decided block that changes the voters, verified by the epoch
// before. One that is known is no error; another one in its place is
// ErrUntrusted: more voters lied, or forgot, than the set stands.
func (e *Epochs) Learn(trust Trust, raw []byte) error {
	b, err := OpenBlock(trust, raw)
	if err != nil {
		return fmt.Errorf("learn voters: %w", err)
	}
	return e.take(b)
}

// Take is Learn for a block that was verified.
func (e *Epochs) Take(b *signalbox.DecidedBlock) error { return e.take(b) }

func (e *Epochs) take(b *signalbox.DecidedBlock) error {
	c := b.Voters()
	if c == nil || c.Epoch != b.Epoch+1 {
		return fmt.Errorf("%w: block %d brings no voters after set %d", signalbox.ErrInvalid, b.Index, b.Epoch)
	}
	if known, err := e.known(b); known || err != nil {
		return err
	}
	verifier, err := e.make(c.VoterSet)
	if err != nil {
		return fmt.Errorf("voters of epoch %d: %w", c.Epoch, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	last := &e.all[len(e.all)-1]
	if last.set.Epoch != b.Epoch {
		return nil // another one was faster
	}
	last.ends = b.Index
	e.bytes += len(b.Raw)
	e.all = append(e.all, epoch{set: c.VoterSet, quorum: Remember(verifier), begins: b.Index, block: b.Raw, digest: b.Digest})
	return nil
}

// known reports whether the block's change is known.
func (e *Epochs) known(b *signalbox.DecidedBlock) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at, ok := e.at(b.Epoch + 1); ok {
		if at.digest != b.Digest {
			return true, fmt.Errorf("%w: two blocks change the voters of epoch %d: more of them lied, or lost their disks, than the set stands", signalbox.ErrUntrusted, b.Epoch)
		}
		return true, nil
	}
	if last := e.all[len(e.all)-1]; last.set.Epoch != b.Epoch {
		return false, fmt.Errorf("%w: voter set %d; the newest known here is %d", signalbox.ErrUnknown, b.Epoch, last.set.Epoch)
	}
	if e.bytes+len(b.Raw) > MaxChain {
		return false, fmt.Errorf("%w: the blocks that changed the voters have more than %d bytes", signalbox.ErrInvalid, MaxChain)
	}
	return false, nil
}

// Chain returns the blocks that lead from the first set to that of an epoch,
// oldest first; 0 stands for the newest.
func (e *Epochs) Chain(number uint64) (out [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range e.all[1:] {
		if number == 0 || at.set.Epoch <= number {
			out = append(out, at.block)
		}
	}
	return out
}

// Room reports whether another change of so many bytes still fits MaxChain.
func (e *Epochs) Room(more int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bytes+more <= MaxChain
}

// Had returns who had a key in any epoch, by either of its keys.
func (e *Epochs) Had(key []byte) (v signalbox.Voter, epoch uint64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.all {
		for _, had := range e.all[i].set.Voters {
			if len(key) > 0 && (bytes.Equal(had.PublicKey, key) || bytes.Equal(had.SignatureKey, key)) {
				v, epoch, ok = had, e.all[i].set.Epoch, true
			}
		}
	}
	return v, epoch, ok
}

// Verifier makes what verifies a set's signatures, or says why it is none.
func (e *Epochs) Verifier(set signalbox.VoterSet) (QuorumVerifier, error) { return e.make(set) }

// VoterKeys looks the voters of a set up by the fingerprints of their keys.
func VoterKeys(set signalbox.VoterSet) KeyLookup {
	keys := map[signalbox.Identity]ed25519.PublicKey{}
	for _, v := range set.Voters {
		keys[IdentityOf(v.PublicKey)] = v.PublicKey
	}
	return func(id signalbox.Identity) ed25519.PublicKey { return keys[id] }
}
