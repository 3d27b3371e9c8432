package handover

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// Voters are those who decide the next block; the zero set where the trust knows
// no epochs.
func (l *Ledger) Voters() signalbox.VoterSet { return l.voters }

// applyVoters has the next block decided by the voters that this one names. What
// is open stays open.
func (l *Ledger) applyVoters(b *signalbox.DecidedBlock) error {
	c := b.Voters()
	if c == nil || l.trust.Epochs == nil {
		return nil
	}
	if err := l.trust.Epochs.Take(b); err != nil {
		return err
	}
	l.voters, l.changes = c.VoterSet, append(l.changes, b)
	return nil
}

// begins is the index of the block that brought the voters of now, 0 for the first.
func (l *Ledger) begins() uint64 {
	if len(l.changes) == 0 {
		return 0
	}
	return l.changes[len(l.changes)-1].Index
}

// epochOf is the epoch that decided the block of an index of this log; 0 where the
// trust knows no epochs.
func (l *Ledger) epochOf(index uint64) (epoch uint64) {
	if l.trust.Epochs == nil {
		return 0
	}
	epoch = l.trust.Epochs.First().Epoch
	for _, b := range l.changes {
		if b.Index < index {
			epoch = b.Voters().Epoch
		}
	}
	return epoch
}

// checkVoters is what a voter checks of a change of voters, by itself: the next
// epoch, numbers that fit, keys that somebody holds and nobody has lost, and
// leases that outlive the loss of any data center.
func (l *Ledger) checkVoters(c *signalbox.VoterChange) error {
	if l.trust.Epochs == nil {
		return fmt.Errorf("%w: this process cannot check voters", signalbox.ErrNotConfigured)
	}
	if c.Epoch != l.voters.Epoch+1 {
		return fmt.Errorf("%w: voter set %d follows, not %d; look at the voters and ask again: signalbox gateway voters list", signalbox.ErrConflict, l.voters.Epoch+1, c.Epoch)
	}
	if err := c.Check(); err != nil {
		return err
	}
	if err := rpc.VerifyVoters(l.trust, c); err != nil {
		return err
	}
	for i := range c.Voters {
		if err := l.checkVoter(&c.Voters[i]); err != nil {
			return err
		}
	}
	if _, err := l.trust.Epochs.Verifier(c.VoterSet); err != nil {
		return err
	}
	raw, err := rpc.EncodeRequest(&signalbox.Request{Voters: c})
	if err != nil {
		return err
	}
	if !l.trust.Epochs.Room(len(raw) + len(l.voters.Voters)*maxShare + maxFrame) {
		return fmt.Errorf("%w: the voters were changed so often that certificates grow too large", signalbox.ErrRefused)
	}
	return l.checkLeaseQuorum(&c.VoterSet)
}

// What a block's envelope adds to its requests, in bytes: for each voter a share of
// the signature, and the rest.
const (
	maxShare = 72
	maxFrame = 1024
)

// checkVoter: a key that stays is the same voter's; any other one is new, and
// proven.
func (l *Ledger) checkVoter(v *signalbox.Voter) error {
	for _, key := range [][]byte{v.PublicKey, v.SignatureKey} {
		had, epoch, ok := l.trust.Epochs.Had(key)
		now, votes := l.voters.Voter(had.Name)
		switch {
		case !ok:
		case had.Name != v.Name || had.DataCenter != v.DataCenter:
			return fmt.Errorf("%w: the key of %s was %s's in epoch %d; a voter has a key of its own", signalbox.ErrRefused, v.Name, had.Name, epoch)
		case !votes || string(now.PublicKey) != string(had.PublicKey):
			return fmt.Errorf("%w: the key of %s was replaced after epoch %d; a key that was given up does not come back: it may be lost with its disk, or copied", signalbox.ErrRefused, v.Name, epoch)
		}
	}
	if now, votes := l.voters.Voter(v.Name); votes && string(now.PublicKey) == string(v.PublicKey) && string(now.SignatureKey) == string(v.SignatureKey) {
		return nil
	}
	return rpc.VerifyVoter(l.trust.Cluster, v)
}

// checkLeaseQuorum: where a service uses leases, losing any single data center
// must leave a quorum, or its loss would stop a healthy master elsewhere.
func (l *Ledger) checkLeaseQuorum(set *signalbox.VoterSet) error {
	lost, survives := set.Survives()
	if survives {
		return nil
	}
	for _, name := range l.Services() {
		if st := l.services[name]; st.LongestLeases().Used() {
			return fmt.Errorf("%w: without data center %s fewer than %d of the %d voters are left, and service %s uses leases: its master would stop. Take voters in a third data center (1/1/1 or 2/2/2), or hand the service over without leases first", signalbox.ErrRefused, lost, set.Quorum(), len(set.Voters), name)
		}
	}
	return nil
}

// LongestLeases returns the longest leases of the terms that are in force or open;
// none: the zero value.
func (s *ServiceState) LongestLeases() (longest signalbox.Leases) {
	take := func(l signalbox.Leases) {
		if l.LapseWait() > longest.LapseWait() {
			longest = l
		}
	}
	if s.Certificate != nil {
		take(s.Certificate.Leases())
	}
	for _, b := range s.Open {
		h := b.Handover(s.Service)
		take(h.Leases)
		take(h.FallbackLeases)
	}
	return longest
}
