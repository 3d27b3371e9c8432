package journal

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// OfficeOptions are what a gateway needs to vote whenever the log says that it
// does.
type OfficeOptions struct {
	Journal *Journal
	// Name is this gateway's.
	Name string
	// Key has the private keys of a voter that is this gateway: its Ed25519 key, and
	// that of a scheme with keys of its own. False: they are not here.
	Key func(signalbox.Voter) (key ed25519.PrivateKey, secret []byte, ok bool)
	// Lessor grants leases as the voter that this gateway is; nil: nobody does.
	Lessor *Lessor
	// Timeout, UnreachableTimeout, Send, Standings, Newest, Logger and Refused are a
	// Member's.
	Timeout, UnreachableTimeout time.Duration

	Send      func(voter string, raw []byte)
	Standings func(ctx context.Context) map[string]Standing
	Newest    func(ctx context.Context) uint64
	// CatchUp returns when the journal of whoever does not vote, or votes alone, is
	// as new as every other gateway's (see Journal.CaughtUp).
	CatchUp func(ctx context.Context) error
	// Entered is told of every epoch that the log reaches, and whether this gateway
	// votes in it. Optional; it must not wait.
	Entered func(set signalbox.VoterSet, votes bool)
	Logger  zerolog.Logger
	Refused func(reason string)
}

// An Office is this gateway as a voter, as long as it is one: when the log changes
// the voters it goes on as a member of the new set, or as none. Run it; everything
// else may be called from any goroutine.
//
// Guarantees: it votes as part of the set that decides the next block by its own
// log, and of no other.
type Office struct {
	opt   OfficeOptions
	links *Links
	now   atomic.Pointer[seat]
}

// seat is this gateway in one epoch; neither a voter nor a member: it does not vote.
type seat struct {
	set    signalbox.VoterSet
	voter  *Voter  // the set's only one
	member *Member // one of several
}

var errNoSeat = fmt.Errorf("%w: this gateway is no voter", signalbox.ErrNotConfigured)

// NewOffice returns the gateway's office as the log has it now.
func NewOffice(opt OfficeOptions) (*Office, error) {
	if opt.Refused == nil {
		opt.Refused = func(string) {}
	}
	o := &Office{opt: opt, links: newLinks()}
	return o, o.take(o.voters())
}

func (o *Office) voters() (set signalbox.VoterSet) {
	o.opt.Journal.View(func(l *handover.Ledger) { set = l.Voters() })
	return set
}

// take takes the seat that this gateway has in a set.
func (o *Office) take(set signalbox.VoterSet) error {
	s := &seat{set: set}
	scheme, key, err := o.schemeOf(set)
	if err != nil {
		return err
	}
	j := o.opt.Journal
	if o.opt.Lessor != nil {
		o.opt.Lessor.Enter(scheme, set.Epoch, key)
	}
	switch {
	case key == nil:
	case len(set.Voters) == 1:
		s.voter = NewVoter(j, scheme, set.Epoch, o.opt.Name, key, time.Now)
		s.voter.stop = o.stop()
	default:
		s.member, err = NewMember(MemberOptions{
			Journal: j, Scheme: scheme, Key: key, Epoch: set.Epoch, Name: o.opt.Name, Voters: set.Names(), Unavailable: set.Unavailable,
			Timeout: o.opt.Timeout, UnreachableTimeout: o.opt.UnreachableTimeout, Links: o.links,
			Send: o.opt.Send, Standings: o.opt.Standings, Newest: o.opt.Newest, Stop: o.stop(),
			Logger: o.opt.Logger, Refused: o.opt.Refused,
		})
		if err != nil {
			return err
		}
	}
	o.now.Store(s)
	return nil
}

func (o *Office) stop() func(uint64) error {
	if o.opt.Lessor == nil {
		return nil
	}
	return o.opt.Lessor.Stop
}

// schemeOf makes the scheme of a set with this gateway's keys; the key is nil when
// it is no voter, or has lost them.
func (o *Office) schemeOf(set signalbox.VoterSet) (signature.Scheme, ed25519.PrivateKey, error) {
	v, votes := set.Voter(o.opt.Name)
	if votes {
		if key, secret, ok := o.opt.Key(v); ok {
			scheme, err := signature.ForVoter(set, key, secret)
			return scheme, key, err
		}
		o.opt.Logger.Error().Uint64("epoch", set.Epoch).
			Msgf("%s is a voter and its key is not here: it does not vote; replace it: signalbox gateway voters change --replace %s", o.opt.Name, o.opt.Name)
	}
	scheme, err := signature.ForSet(set)
	return scheme, nil, err
}

// Run votes until ctx ends. An error means that this gateway cannot go on.
func (o *Office) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s := o.now.Load()
		if o.opt.Entered != nil {
			o.opt.Entered(s.set, s.voter != nil || s.member != nil)
		}
		if err := o.sit(ctx, s); err != nil || ctx.Err() != nil {
			return err
		}
		set := o.voters()
		if err := o.take(set); err != nil {
			return fmt.Errorf("go on with the voters of epoch %d: %w", set.Epoch, err)
		}
		now := o.now.Load()
		o.opt.Logger.Info().Uint64("epoch", set.Epoch).Strs("voters", set.Names()).Bool("votes", now.voter != nil || now.member != nil).
			Msg("the voters were changed")
	}
	return nil
}

// sit does an epoch's part until the epoch is over.
func (o *Office) sit(ctx context.Context, s *seat) error {
	if s.member != nil {
		return s.member.Run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		if o.opt.CatchUp == nil {
			ended <- nil
			return
		}
		ended <- o.opt.CatchUp(ctx)
	}()
	for {
		changed := o.opt.Journal.Changed()
		if now := o.voters().Epoch; now != s.set.Epoch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil
		case <-changed:
		}
	}
}

// Voters are those who decide the next block by this gateway's log.
func (o *Office) Voters() signalbox.VoterSet { return o.voters() }

// Votes reports whether this gateway votes now.
func (o *Office) Votes() bool {
	s := o.now.Load()
	return s.voter != nil || s.member != nil
}

// Propose has a request decided; see Voter and Member. ErrNotConfigured: this
// gateway does not vote.
func (o *Office) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	switch s := o.now.Load(); {
	case s.member != nil:
		return s.member.Propose(ctx, r)
	case s.voter != nil:
		return s.voter.Propose(ctx, r)
	}
	return nil, errNoSeat
}

// Waiting is how many requests that were asked for here wait to be decided.
func (o *Office) Waiting() int64 {
	switch s := o.now.Load(); {
	case s.member != nil:
		return s.member.waiting.Load()
	case s.voter != nil:
		return s.voter.waiting.Load()
	}
	return 0
}

// Answer answers an instance's question; see Voter and Member.
func (o *Office) Answer(service signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error) {
	switch s := o.now.Load(); {
	case s.member != nil:
		return s.member.Answer(service, id, nonce)
	case s.voter != nil:
		return s.voter.Answer(service, id, nonce)
	}
	return nil, errNoSeat
}

// Receive takes a message of the agreement from another voter's gateway.
func (o *Office) Receive(from string, raw []byte) {
	if m := o.now.Load().member; m != nil {
		m.Receive(from, raw)
		return
	}
	o.opt.Refused("agreement-not-here")
}

// Linked takes whether the stream to another gateway is there; see Links.
func (o *Office) Linked(gateway string, up bool) { o.links.Set(gateway, up) }

// Standing says what this gateway knows of its votes.
func (o *Office) Standing() (begun bool, voted uint64) {
	if m := o.now.Load().member; m != nil {
		return m.Standing()
	}
	return false, 0
}
