package journal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Lessor is a voter's side of leases: membership/lease with a disk and a key.
// Safe for concurrent use.
//
// Guarantees: a grant or a share leaves only after what it rests on was on stable
// storage; nothing is granted from a journal that is restored, in doubt or
// failed. A slow disk holds no grant up.
type Lessor struct {
	journal *Journal
	now     func() lease.Instant

	disk sync.Mutex // serialises writes; taken before mu

	mu sync.Mutex
	voting
	grantor *lease.Grantor // nil until the journal is known to be whole
	granted map[lease.Of]given
}

// voting is as which voter grants are signed: key signs them, scheme shares of
// lapses. Without a key there are none.
type voting struct {
	scheme signature.Scheme
	epoch  uint64
	key    ed25519.PrivateKey
}

// given is the newest grant to an identity: a request that comes by several ways
// is signed once.
type given struct {
	request rpc.Lease
	grant   []byte
}

// NewLessor returns the lessor of the voter whose log the journal is. scheme and
// key are the voter's, epoch is its voter set's; now reads boot-time and wall clock.
func NewLessor(j *Journal, scheme signature.Scheme, epoch uint64, key ed25519.PrivateKey, now func() lease.Instant) *Lessor {
	return &Lessor{journal: j, voting: voting{scheme, epoch, key}, now: now, granted: map[lease.Of]given{}}
}

// Enter has this voter go on as one of another voter set, whose epoch the log has
// reached: like after a start it waits before it signs a lapse, for what the set
// before granted. A nil key: it is none of them.
func (l *Lessor) Enter(scheme signature.Scheme, epoch uint64, key ed25519.PrivateKey) {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == epoch && (l.key == nil) == (key == nil) {
		return
	}
	l.voting, l.grantor = voting{scheme, epoch, key}, nil
	clear(l.granted)
}

// ready has the grantor, made when the journal may be believed for the first time,
// and as which voter it grants.
func (l *Lessor) ready() (*lease.Grantor, voting, error) {
	if err := l.journal.mayVote(); err != nil {
		return nil, voting{}, err
	}
	l.mu.Lock()
	g, v := l.grantor, l.voting
	l.mu.Unlock()
	if v.key == nil {
		return nil, v, fmt.Errorf("%w: this gateway is no voter", signalbox.ErrNotConfigured)
	}
	if g != nil {
		return g, v, nil
	}
	l.disk.Lock()
	defer l.disk.Unlock()
	return l.begin()
}

// begin reads what is on disk. A journal that never granted for this voter set,
// or lost what it promised (a restored backup), takes the promises and the longest
// leases of all voters from the log: they could have been anybody's.
func (l *Lessor) begin() (*lease.Grantor, voting, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grantor != nil {
		return l.grantor, l.voting, nil
	}
	if err := l.journal.inEpoch(l.epoch); err != nil {
		return nil, l.voting, err
	}
	saved, epoch, err := l.journal.readLeases()
	if err != nil {
		return nil, l.voting, fmt.Errorf("read leases: %w", err)
	}
	if epoch != l.epoch {
		changes := l.journal.impliedByLog()
		if err := l.journal.writeLeases(l.epoch, changes...); err != nil {
			return nil, l.voting, err
		}
		for _, c := range changes {
			saved.Apply(c)
		}
	}
	l.grantor = lease.NewGrantor(l.epoch, saved, l.now())
	return l.grantor, l.voting, nil
}

// inEpoch returns nil when a voter set decides the next block by this log.
func (j *Journal) inEpoch(epoch uint64) (err error) {
	j.View(func(l *handover.Ledger) { err = inEpoch(l, epoch) })
	return err
}

func inEpoch(l *handover.Ledger, epoch uint64) error {
	if now := l.Voters().Epoch; now != 0 && now != epoch {
		return fmt.Errorf("%w: voter set %d decides by this voter's log, and it goes on as one of set %d", signalbox.ErrUnavailable, now, epoch)
	}
	return nil
}

// keep writes a change and tells the grantor, without holding up grants.
func (l *Lessor) keep(g *lease.Grantor, c *lease.Change) error {
	if c == nil {
		return nil
	}
	l.disk.Lock()
	defer l.disk.Unlock()
	if err := l.journal.writeLeases(g.Epoch(), *c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g.Kept(*c)
	return nil
}

// Grant verifies a request and grants it, signed. The error says why not: for
// people, and ErrRefused where asking again does not help.
func (l *Lessor) Grant(raw []byte) ([]byte, error) {
	g, as, err := l.ready()
	if err != nil {
		return nil, err
	}
	request, err := rpc.OpenLeaseRequest(l.journal.trust.Cluster, raw, l.journal.instanceKey)
	if err != nil {
		return nil, err
	}
	of := lease.Of{Service: request.Service, Identity: request.Identity}
	l.mu.Lock()
	last := l.granted[of]
	l.mu.Unlock()
	if last.request == request && last.grant != nil {
		return last.grant, nil
	}
	leases, decided, err := l.leasesOf(request, as.epoch)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	g.Decided(decided)
	l.mu.Unlock()
	if err := l.grant(g, request, leases); err != nil {
		return nil, err
	}
	said := request
	said.Epoch = as.epoch
	grant, err := rpc.SealLeaseGrant(l.journal.trust.Cluster, said, as.key)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.granted) >= lease.MaxHolders {
		clear(l.granted)
	}
	if l.grantor == g {
		l.granted[of] = given{request, grant}
	}
	return grant, nil
}

func (l *Lessor) grant(g *lease.Grantor, request rpc.Lease, leases signalbox.Leases) error {
	for {
		l.mu.Lock()
		change, err := g.Grant(lease.Request(request), leases, l.now())
		l.mu.Unlock()
		if err != nil || change == nil {
			return err
		}
		if err := l.keep(g, change); err != nil {
			return err
		}
	}
}

// leasesOf returns the leases of a term that may be served now, by this voter's
// log, and the log's newest slot, which is still the epoch's.
func (l *Lessor) leasesOf(r rpc.Lease, epoch uint64) (leases signalbox.Leases, decided uint64, err error) {
	l.journal.View(func(ledger *handover.Ledger) {
		if err = inEpoch(ledger, epoch); err != nil {
			return
		}
		decided = ledger.Index()
		st := ledger.Service(r.Service)
		if st == nil {
			err = fmt.Errorf("%w: service %s is not in this voter's log", signalbox.ErrUnknown, r.Service)
			return
		}
		if _, ok := st.Outstanding[r.Identity]; !ok {
			err = fmt.Errorf("%w: %s may serve no term of %s by this voter's log", signalbox.ErrRefused, r.Identity, r.Service)
			return
		}
		if st.Term() == r.Term {
			leases = st.Certificate.Leases()
			return
		}
		for _, b := range st.Open {
			switch h := b.Handover(r.Service); r.Term {
			case h.Term:
				leases = h.Leases
				return
			case h.Fallback:
				leases = h.FallbackLeases
				return
			}
		}
		err = fmt.Errorf("%w: term %d of %s is neither the master's nor open in this voter's log (it has term %d)", signalbox.ErrRefused, r.Term, r.Service, st.Term())
	})
	return leases, decided, err
}

// Lapse promises what an encoded lapse says, durably, and signs it once every
// lease that the promise forbids has run out. Until then wait says how long that
// takes at least; ask again.
func (l *Lessor) Lapse(payload []byte) (share signature.Share, wait time.Duration, err error) {
	g, as, err := l.ready()
	if err != nil {
		return share, 0, err
	}
	t, err := rpc.DecodeTestimony(signalbox.SaysLapse, payload)
	if err != nil {
		return share, 0, err
	}
	promise, leases, err := l.checkLapse(&t, as.epoch)
	if err != nil {
		return share, 0, err
	}
	of := lease.Of{Service: t.Service, Identity: t.Identity}
	l.mu.Lock()
	change, err := g.Promise(of, promise)
	l.mu.Unlock()
	if err == nil {
		err = l.keep(g, change)
	}
	if err != nil {
		return share, 0, err
	}
	l.mu.Lock()
	ready, wait := g.Lapsed(of, promise, leases, l.now())
	l.mu.Unlock()
	if !ready {
		return share, max(wait, time.Millisecond), nil
	}
	share, err = as.scheme.Sign(rpc.SigningInput(rpc.DomainLapse, l.journal.trust.Cluster, payload))
	return share, 0, err
}

// checkLapse: the log has a block that allows the lapse, and names the identity
// as one that never serves without a lease.
func (l *Lessor) checkLapse(t *rpc.Testimony, epoch uint64) (p lease.Promise, leases signalbox.Leases, err error) {
	if t.Witness.Epoch != epoch {
		return p, leases, fmt.Errorf("%w: the lapse is for voter set %d, this is %d", signalbox.ErrRefused, t.Witness.Epoch, epoch)
	}
	l.journal.View(func(ledger *handover.Ledger) {
		if err = inEpoch(ledger, epoch); err != nil {
			return
		}
		st := ledger.Service(t.Service)
		if st == nil {
			err = fmt.Errorf("%w: service %s", signalbox.ErrUnknown, t.Service)
			return
		}
		leases = st.LongestLeases()
		for _, b := range st.Open {
			if b.Digest != t.Block {
				continue
			}
			h := b.Handover(t.Service)
			entry, ok := h.Entry(t.Identity)
			if !ok {
				err = fmt.Errorf("%w: the roster does not name %s", signalbox.ErrRefused, t.Identity)
				return
			}
			p = lease.Promise{Below: h.Term, UpTo: b.Index}
			err = rpc.Proves(h, b.Digest, entry, t.Statement)
			return
		}
		a := st.Announced[t.Identity]
		entry, ok := st.Entry(t.Identity)
		if a == nil || !ok || a.Digest != t.Block {
			err = fmt.Errorf("%w: block %s is not open in this voter's log, nor does it announce a removal", signalbox.ErrRefused, t.Block)
			return
		}
		p = lease.Promise{Below: a.Below, UpTo: a.Index}
		err = rpc.ProvesRemoval(&a.Removal, a.Digest, entry, t.Statement)
	})
	return p, leases, err
}

// Stop ends granting until a slot is decided, durably: before the voter votes there
// for other voters. Once the slot was decided without them it grants again.
func (l *Lessor) Stop(slot uint64) error {
	g, _, err := l.ready()
	if errors.Is(err, signalbox.ErrNotConfigured) {
		return nil // it grants nothing
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	change := g.Stop(slot)
	l.mu.Unlock()
	return l.keep(g, change)
}

func (j *Journal) instanceKey(id signalbox.Identity) (key ed25519.PublicKey) {
	j.View(func(l *handover.Ledger) {
		if in, ok := l.Enrolled(id); ok {
			key = in.PublicKey
		}
	})
	return key
}
