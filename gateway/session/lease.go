package session

import (
	"errors"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// MaxLeases is the number of lease requests, and of shares asked for, that are
// worked on at once; what comes beyond is dropped, and asked for again.
const MaxLeases = 64

// A Lessor is this gateway as a voter, for leases. Its methods may wait for the
// disk.
type Lessor interface {
	// Grant signs a lease that an instance asks for, or says why not.
	Grant(request []byte) (grant []byte, err error)
	// Lapse promises and, when wait is 0, signs a lapse; else it is to be asked
	// again after wait.
	Lapse(payload []byte) (share signature.Share, wait time.Duration, err error)
}

// lease takes a request from an agent's session.
func (a *Agents) lease(s *agentSession, raw []byte) {
	request, err := rpc.InspectLeaseRequest(raw)
	if _, ok := s.known[request.Identity]; err != nil || !ok || a.opt.Lease == nil {
		a.opt.Refused("lease")
		return
	}
	a.opt.Lease(raw)
}

// RequestLease has every voter grant an instance's request; the replies go to
// PeersOptions.Leased.
func (p *Peers) RequestLease(raw []byte) {
	p.grant(raw, p.leased)
	for _, l := range p.links {
		if p.votes(l) {
			p.queue(l, &wire.PeerFrame{Kind: &wire.PeerFrame_Lease{Lease: &wire.LeaseFrame{Request: raw}}})
		}
	}
}

// grant has this voter grant a request, on a goroutine of its own: the sessions
// must not wait for the disk.
func (p *Peers) grant(raw []byte, reply func(*wire.LeaseReply)) {
	if p.opt.Lessor == nil || !p.selfVotes() {
		return
	}
	p.work(func() {
		request, err := rpc.InspectLeaseRequest(raw)
		if err != nil {
			p.opt.Refused("lease")
			return
		}
		out := &wire.LeaseReply{Identity: rpc.IdentityToBytes(request.Identity), Voter: p.opt.Gateway}
		if out.Grant, err = p.opt.Lessor.Grant(raw); err != nil {
			out.Problem = clipped(err.Error())
			if errors.Is(err, signalbox.ErrUntrusted) || errors.Is(err, signalbox.ErrInvalid) {
				p.opt.Refused("lease")
			}
		}
		reply(out)
	})
}

// work runs f unless too much is under way.
func (p *Peers) work(f func()) {
	select {
	case p.working <- struct{}{}:
	default:
		return
	}
	go func() { // ends when the disk does
		defer func() { <-p.working }()
		f()
	}()
}

func (p *Peers) leased(reply *wire.LeaseReply) {
	if p.opt.Leased == nil || len(reply.GetGrant()) > rpc.MaxStatement || len(reply.GetProblem()) > signalbox.MaxReason || len(reply.GetVoter()) > signalbox.MaxName {
		return
	}
	if id, err := rpc.IdentityFromBytes(reply.GetIdentity()); err == nil {
		p.opt.Leased(id, reply)
	}
}

// leaseFrame takes a request, or a reply, from a peer.
func (p *Peers) leaseFrame(from string, f *wire.LeaseFrame) {
	if f.GetReply() != nil {
		p.leased(f.GetReply())
		return
	}
	p.grant(f.GetRequest(), func(reply *wire.LeaseReply) {
		p.Tell([]string{from}, &wire.PeerFrame{Kind: &wire.PeerFrame_Lease{Lease: &wire.LeaseFrame{Reply: reply}}})
	})
}

// RequestLapse asks every voter for its share of an encoded lapse; what they say,
// this gateway's own included, goes to Handler.PeerFrame, unverified. It is to be
// repeated while shares are missing: a voter signs only after it has waited.
func (p *Peers) RequestLapse(payload []byte) {
	p.lapse(payload, func(s *wire.EvidenceShare) { p.shared(p.opt.Gateway, s) })
	for _, l := range p.links {
		if p.votes(l) {
			p.queue(l, &wire.PeerFrame{Kind: &wire.PeerFrame_Share{Share: &wire.EvidenceShare{Domain: uint32(rpc.DomainLapse), Payload: payload}}})
		}
	}
}

func (p *Peers) lapse(payload []byte, reply func(*wire.EvidenceShare)) {
	if p.opt.Lessor == nil || !p.selfVotes() {
		return
	}
	p.work(func() {
		out := &wire.EvidenceShare{Domain: uint32(rpc.DomainLapse), Payload: payload}
		share, wait, err := p.opt.Lessor.Lapse(payload)
		switch {
		case err != nil:
			out.Problem = clipped(err.Error())
		case wait > 0:
			out.WaitNano = int64(wait)
		default:
			out.Voter, out.Signature = uint32(share.Voter), share.Signature
		}
		reply(out)
	})
}

// shareFrame takes a share of a lapse, or somebody asks for one.
func (p *Peers) shareFrame(from string, f *wire.EvidenceShare) {
	asks := len(f.GetSignature()) == 0 && f.GetProblem() == "" && f.GetWaitNano() == 0
	if !asks {
		p.shared(from, f)
		return
	}
	p.lapse(f.GetPayload(), func(s *wire.EvidenceShare) {
		p.Tell([]string{from}, &wire.PeerFrame{Kind: &wire.PeerFrame_Share{Share: s}})
	})
}

// shared hands a share on: its signature is for the handler to verify.
func (p *Peers) shared(from string, s *wire.EvidenceShare) {
	if len(s.GetPayload()) <= rpc.MaxEvidence && len(s.GetSignature()) <= rpc.MaxEvidence && len(s.GetProblem()) <= signalbox.MaxReason {
		p.opt.Handler.PeerFrame(from, &wire.PeerFrame{Kind: &wire.PeerFrame_Share{Share: s}})
	}
}

// received takes a peer's frame that the sessions answer by themselves; false for
// any other.
func (p *Peers) received(from string, f *wire.PeerFrame) bool {
	switch k := f.Kind.(type) {
	case *wire.PeerFrame_Agreement:
		p.agreement(from, k.Agreement)
	case *wire.PeerFrame_Lease:
		p.leaseFrame(from, k.Lease)
	case *wire.PeerFrame_Share:
		if rpc.Domain(k.Share.GetDomain()) != rpc.DomainLapse {
			return false
		}
		p.shareFrame(from, k.Share)
	default:
		return false
	}
	return true
}

func clipped(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), signalbox.MaxReason-4)], "?")
}
