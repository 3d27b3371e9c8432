package coordinator

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// Maxima of the evidence that is being gathered.
const (
	// maxGathering is of how many testimonies signatures are gathered at once.
	maxGathering = 8192
	// gatherFor is how long signatures of one are kept.
	gatherFor = 10 * time.Minute
)

// A Fencer has a machine cut off. It is called from goroutines of its own, once
// at a time for an instance.
type Fencer interface {
	// Name is the plugin's name, as evidence and records say it.
	Name() string
	// Longest is how long one run may take.
	Longest() time.Duration
	// Fence returns what the plugin said when it confirmed that the instance's
	// machine is off, or cut off until restarted; an error when it did not.
	Fence(ctx context.Context, in signalbox.Instance, handover string) (output []byte, err error)
}

// Witness is this gateway's part in others' evidence.
type Witness struct {
	// Scheme combines the shares of lapses of the voter set Epoch.
	Scheme signature.Scheme
	Epoch  uint64
	// Key signs fences; nil where this gateway does not vote: it fences nobody.
	Key ed25519.PrivateKey
}

// gathering is one testimony whose signatures come together. The owner's.
type gathering struct {
	said    rpc.Testimony
	payload []byte
	lapses  []signature.Share
	fences  []rpc.Share
	asking  bool // lapse: the wait of a voter runs; fence: signed here
	whole   bool
	at      time.Time
}

// fencing is one instance that is being fenced for a block. The owner's.
type fencing struct {
	running bool
	output  []byte // what the plugin said when it confirmed
	done    bool
}

type fenceKey struct {
	block signalbox.Digest
	id    signalbox.Identity
}

// collect carries handover.Collect out.
func (c *Coordinator) collect(s *service, e handover.Collect) {
	for _, entry := range e.Of {
		switch e.Kind {
		case signalbox.Lapse:
			c.askLapse(s, e.Block.Digest, e.Block.Handover(s.conf.Name).Term, entry)
		case signalbox.Fence:
			c.fence(s, e.Block.Digest, e.Block.Handover(s.conf.Name).Term, entry, e.Block.Handover(s.conf.Name).ID)
		}
	}
}

func testimony(kind signalbox.StatementKind, s *service, block signalbox.Digest, below signalbox.Term, entry signalbox.RosterEntry) rpc.Testimony {
	return rpc.Testimony{Statement: signalbox.Statement{
		Kind: kind, Service: s.conf.Name, Identity: entry.Identity, Admission: entry.Admission, Block: block, Term: below,
	}}
}

// gather returns the gathering of a testimony, nil when there are too many.
func (c *Coordinator) gather(t *rpc.Testimony) *gathering {
	payload, err := t.Encode()
	if err != nil {
		c.opt.Logger.Error().Err(err).Str("service", string(t.Service)).Msg("cannot ask for evidence")
		return nil
	}
	key := fmt.Sprint(t.Kind, ":", string(payload))
	if g := c.gathered[key]; g != nil {
		return g
	}
	now := c.opt.Now()
	for k, g := range c.gathered {
		if now.Sub(g.at) > gatherFor {
			delete(c.gathered, k)
		}
	}
	if len(c.gathered) >= maxGathering {
		return nil
	}
	g := &gathering{said: *t, payload: payload, at: now}
	c.gathered[key] = g
	return g
}

// askLapse has the voters sign the lapse of a roster identity, each as soon as it
// may; the shares come back as frames.
func (c *Coordinator) askLapse(s *service, block signalbox.Digest, below signalbox.Term, entry signalbox.RosterEntry) {
	t := testimony(signalbox.SaysLapse, s, block, below, entry)
	t.Witness.Epoch = c.opt.Voting().Witness.Epoch
	if g := c.gather(&t); g != nil && !g.whole {
		c.opt.Links.RequestLapse(g.payload)
	}
}

// askAgain asks for the shares of a lapse again when a voter's wait is over.
func (c *Coordinator) askAgain(g *gathering, wait time.Duration) {
	if g.asking || wait > maxLapseWait {
		return
	}
	g.asking = true
	c.background(func(ctx context.Context) {
		if sleep(ctx, wait) {
			c.post(func() {
				if g.asking = false; !g.whole {
					c.opt.Links.RequestLapse(g.payload)
				}
			})
		}
	})
}

// maxLapseWait bounds how long a voter may want to be waited for.
const maxLapseWait = 2 * signalbox.MaxLeaseTTL

func shareFrame(f *wire.EvidenceShare) *wire.PeerFrame {
	return &wire.PeerFrame{Kind: &wire.PeerFrame_Share{Share: f}}
}

// takeLapse adds a verified share, and makes the evidence when they are enough.
func (c *Coordinator) takeLapse(g *gathering, share signature.Share) {
	for _, have := range g.lapses {
		if have.Voter == share.Voter {
			return
		}
	}
	g.lapses = append(g.lapses, share)
	scheme := c.opt.Voting().Witness.Scheme
	combined, err := scheme.Combine(g.lapses)
	if err != nil || g.whole {
		return // too few yet
	}
	raw, err := rpc.SealLapse(g.payload, scheme.Name(), combined)
	c.evidenceMade(g, raw, err)
}

// fencers may sign fences now, and so many of them have to.
func (c *Coordinator) fencers() (rpc.SignerLookup, int) {
	if e := c.opt.Trust.Epochs; e != nil {
		if set, ok := e.Of(c.opt.Voting().Witness.Epoch); ok {
			return rpc.Fencers(set), set.Lying + 1
		}
	}
	none := func(signalbox.Identity) (rpc.Signer, bool) { return rpc.Signer{}, false }
	if c.opt.Trust.Fencers != nil {
		none = c.opt.Trust.Fencers
	}
	return none, max(c.opt.Trust.FenceQuorum, 1)
}

// takeFence adds a verified signature; enough voters' make evidence.
func (c *Coordinator) takeFence(g *gathering, share rpc.Share) {
	for _, have := range g.fences {
		if have.Signer == share.Signer {
			return
		}
	}
	g.fences = append(g.fences, share)
	voters, quorum := c.fencers()
	var fences []rpc.Share // of those who vote now: the voters may have changed since
	for _, f := range g.fences {
		if _, ok := voters(f.Signer); ok {
			fences = append(fences, f)
		}
	}
	if len(fences) < quorum || g.whole {
		return
	}
	raw, err := rpc.SealFence(g.payload, fences)
	c.evidenceMade(g, raw, err)
}

func (c *Coordinator) evidenceMade(g *gathering, raw []byte, err error) {
	if err == nil {
		g.whole = true
		err = c.takeEvidence(raw)
	}
	if err != nil {
		c.opt.Logger.Error().Err(err).Str("service", string(g.said.Service)).Msg("signatures do not make evidence")
	}
}

// takeEvidence takes others' evidence in that came together here, and tells the
// peers. Runs by the owner.
func (c *Coordinator) takeEvidence(raw []byte) error {
	e, err := c.openStatement(raw)
	if err != nil {
		return err
	}
	if c.firstTime(rpc.StatementKey(e.Statement)) {
		c.said(e, c.opt.Now())
	}
	c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_Statement{Statement: raw}})
	return nil
}

// entryFor finds, by the own log, the roster entry that a testimony is about: of an
// open block that allows it, or of an announced removal.
func (c *Coordinator) entryFor(t *signalbox.Statement) (entry signalbox.RosterEntry, id string, err error) {
	err = fmt.Errorf("%w: no open handover and no announced removal asks for it: it came too late, or for another block", signalbox.ErrConflict)
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(t.Service)
		if st == nil {
			return
		}
		for _, b := range st.Open {
			if h := b.Handover(t.Service); b.Digest == t.Block {
				entry, _ = h.Entry(t.Identity)
				id, err = h.ID, rpc.Proves(h, b.Digest, entry, *t)
			}
		}
		if a := st.Announced[t.Identity]; a != nil && a.Digest == t.Block {
			entry, _ = st.Entry(t.Identity)
			err = rpc.ProvesRemoval(&a.Removal, a.Digest, entry, *t)
		}
	})
	return entry, id, err
}

// peerShare takes a voter's share, or why it signs none yet.
func (c *Coordinator) peerShare(f *wire.EvidenceShare) {
	kind := map[rpc.Domain]signalbox.StatementKind{
		rpc.DomainLapse: signalbox.SaysLapse, rpc.DomainFence: signalbox.SaysFence,
	}[rpc.Domain(f.GetDomain())]
	t, err := rpc.DecodeTestimony(kind, f.GetPayload())
	if err != nil {
		return
	}
	entry, id, err := c.entryFor(&t.Statement)
	if err != nil {
		return // the own log is behind, or ahead
	}
	g := c.gather(&t)
	if g == nil || g.whole {
		return
	}
	message := rpc.SigningInput(t.Domain(), c.opt.Cluster, g.payload)
	switch {
	case kind == signalbox.SaysLapse && f.GetProblem() != "":
		c.opt.Logger.Warn().Str("service", string(t.Service)).Str("instance", entry.Name).Msg("a voter does not sign the lapse: " + f.GetProblem())
	case kind == signalbox.SaysLapse && len(f.GetSignature()) == 0:
		c.askAgain(g, time.Duration(f.GetWaitNano()))
	case kind == signalbox.SaysLapse:
		share, now := signature.Share{Voter: int(f.GetVoter()), Signature: f.GetSignature()}, c.opt.Voting().Witness
		if now.Epoch == t.Witness.Epoch && now.Scheme.VerifyShare(message, share) == nil {
			c.takeLapse(g, share)
		}
	default:
		c.peerFence(g, f, message)
		c.fence(c.services[t.Service], t.Block, t.Term, entry, id)
		c.signFence(g)
	}
}

func (c *Coordinator) peerFence(g *gathering, f *wire.EvidenceShare, message []byte) {
	id, err := rpc.IdentityFromBytes(f.GetSigner())
	fencers, _ := c.fencers()
	if err != nil {
		return
	}
	if signer, ok := fencers(id); ok && ed25519.Verify(signer.Key, message, f.GetSignature()) {
		c.takeFence(g, rpc.Share{Signer: id, Signature: f.GetSignature()})
	}
}

// fence has this gateway's plugin cut an instance off, once for a block; a
// failure is tried again when it is asked for again.
func (c *Coordinator) fence(s *service, block signalbox.Digest, below signalbox.Term, entry signalbox.RosterEntry, id string) {
	fencer := s.conf.Fences[entry.DataCenter]
	if fencer == nil || c.opt.Voting().Witness.Key == nil {
		return
	}
	key := fenceKey{block, entry.Identity}
	f := c.fencings[key]
	if f == nil {
		f = &fencing{}
		c.fencings[key] = f
	}
	if f.running || f.done {
		return
	}
	f.running = true
	in := signalbox.Instance{Service: s.conf.Name, DataCenter: entry.DataCenter, Name: entry.Name, Identity: entry.Identity, PublicKey: entry.PublicKey}
	c.event(s, eventInstance, entry.Name, "fencing it with "+fencer.Name())
	c.background(func(ctx context.Context) {
		output, err := fencer.Fence(ctx, in, id)
		c.post(func() { c.fenced(s, block, below, entry, fencer.Name(), f, output, err) })
	})
}

func (c *Coordinator) fenced(s *service, block signalbox.Digest, below signalbox.Term, entry signalbox.RosterEntry, plugin string, f *fencing, output []byte, err error) {
	f.running = false
	words := fmt.Sprintf("%s by %s: %s", entry.Name, plugin, clip(string(output), maxOutputLine))
	if err != nil {
		c.event(s, eventInstance, entry.Name, "could not be fenced: "+err.Error()+"; the plugin said: "+words)
		c.opt.Logger.Warn().Err(err).Str("service", string(s.conf.Name)).Str("instance", entry.Name).Msg("fencing failed")
		return
	}
	f.done, f.output = true, output
	c.event(s, eventInstance, entry.Name, "fenced "+words)
	t := testimony(signalbox.SaysFence, s, block, below, entry)
	t.Witness.Plugin, t.Witness.Output = plugin, sha256.Sum256(output)
	if g := c.gather(&t); g != nil {
		c.signFence(g)
	}
	for _, g := range c.gathered { // what others proposed meanwhile
		c.signFence(g)
	}
}

// maxOutputLine is how much of a plugin's output a line of the record shows, in
// bytes.
const maxOutputLine = 2048

// signFence adds this gateway's signature to a fence that its own plugin
// confirmed as well.
func (c *Coordinator) signFence(g *gathering) {
	f := c.fencings[fenceKey{g.said.Block, g.said.Identity}]
	key := c.opt.Voting().Witness.Key
	if g.said.Kind != signalbox.SaysFence || g.asking || f == nil || !f.done || key == nil {
		return
	}
	g.asking = true
	share := rpc.SignTestimony(rpc.DomainFence, c.opt.Cluster, g.payload, key)
	c.takeFence(g, share)
	c.opt.Links.Broadcast(shareFrame(&wire.EvidenceShare{
		Domain: uint32(rpc.DomainFence), Payload: g.payload, Signer: rpc.IdentityToBytes(share.Signer), Signature: share.Signature,
	}))
}

// removeBy proposes the removal that others' evidence was given for.
func (c *Coordinator) removeBy(s *service, e signalbox.Evidence) {
	announced := false
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		announced = st != nil && st.Announced[e.Identity] != nil && st.Announced[e.Identity].Digest == e.Block
	})
	if announced {
		c.propose(s, "removal", signalbox.Request{Remove: &signalbox.Removal{Service: s.conf.Name, Identity: e.Identity, Evidence: e.Envelope}})
	}
}

// SubmitEvidence takes others' evidence that somebody brings (an operator's
// attest): verified, wanted by the own log, told to the peers. An announced
// removal is carried out before it returns. Errors wrap ErrUntrusted, ErrInvalid
// or ErrConflict.
func (c *Coordinator) SubmitEvidence(ctx context.Context, raw []byte) (signalbox.Evidence, string, error) {
	e, err := c.openStatement(raw)
	if err != nil {
		return e, "", err
	}
	if !e.Kind.ByOthers() {
		return e, "", fmt.Errorf("%w: a %s is the instance's own word; bring a lapse, fence or attest", signalbox.ErrInvalid, e.Kind)
	}
	_, id, err := c.entryFor(&e.Statement)
	if err != nil {
		return e, "", err
	}
	if err := c.ask(ctx, func() { err = c.takeEvidence(raw) }); err != nil {
		return e, "", err
	}
	if err != nil || id != "" {
		return e, id, err
	}
	err = c.opt.Links.ProposeTo(ctx, signalbox.Request{Remove: &signalbox.Removal{Service: e.Service, Identity: e.Identity, Evidence: raw}})
	s := c.services[e.Service]
	if errors.Is(err, signalbox.ErrConflict) && s != nil && c.removed(ctx, s, e) {
		err = nil // another gateway was first
	}
	return e, "", err
}

// removed waits a moment for the own log to have what a voter refused a removal by:
// that it is done already.
func (c *Coordinator) removed(ctx context.Context, s *service, e signalbox.Evidence) bool {
	ctx, cancel := context.WithTimeout(ctx, session.ProposeWait)
	defer cancel()
	for {
		changed := c.opt.Journal.Changed()
		if outstanding, _ := c.counts(s, e.Identity, e); !outstanding {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
