package sim

import (
	"crypto/ed25519"
	"crypto/sha256"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// known is what was read and verified in this history: the same bytes say the same
// to everybody, so that one look is enough. Nobody changes what is in it.
type known struct {
	requests     map[[32]byte]*signalbox.Request
	blocks       map[*signalbox.DecidedBlock]*signalbox.DecidedBlock
	certificates map[*signalbox.Certificate]bool
	voters       map[considered]error
	signatures   map[[sha256.Size]byte]bool // of the operator
}

// considered is a change of voters after some log, as somebody sees it who knows the
// voters up to an epoch.
type considered struct {
	change *signalbox.VoterChange
	after  signalbox.Digest
	knows  uint64
}

func newKnown() known {
	return known{
		map[[32]byte]*signalbox.Request{}, map[*signalbox.DecidedBlock]*signalbox.DecidedBlock{}, map[*signalbox.Certificate]bool{},
		map[considered]error{}, map[[sha256.Size]byte]bool{},
	}
}

// signed is for signatures of one key: those without one, and an operator's.
func (k known) signed(key ed25519.PublicKey, message, signature []byte) bool {
	if stamped(key, message, signature) {
		return true
	}
	h := sha256.New()
	h.Write(key)
	h.Write(signature)
	h.Write(message)
	sum := [sha256.Size]byte(h.Sum(nil))
	ok, known := k.signatures[sum]
	if !known {
		ok = ed25519.Verify(key, message, signature)
		k.signatures[sum] = ok
	}
	return ok
}

// checkVoters is the ledger's check of a change of voters, once for one log.
func (g *gateway) checkVoters(r *signalbox.Request) error {
	at := considered{r.Voters, g.book.Digest(), g.book.trust.Epochs.Newest().Epoch}
	err, ok := g.s.known.voters[at]
	if !ok {
		err = g.book.CheckAt(r, g.s.now)
		g.s.known.voters[at] = err
	}
	return err
}

// request reads a request that g was sent, nil when it cannot be read.
func (s *Sim) request(g *gateway, key [32]byte, raw []byte) *signalbox.Request {
	r := s.known.requests[key]
	if r == nil {
		var err error
		if r, err = rpc.DecodeRequest(raw); err != nil {
			s.fail("%s cannot read a request: %v", g.name, err)
			return nil
		}
		s.known.requests[key] = r
	}
	return r
}

// open verifies a block that g follows, nil when it is none.
func (s *Sim) open(g *gateway, b *signalbox.DecidedBlock) *signalbox.DecidedBlock {
	opened := s.known.blocks[b]
	if opened == nil {
		var err error
		if opened, err = rpc.OpenBlock(g.book.trust, b.Raw); err != nil {
			s.fail("%s cannot open block %d: %v", g.name, b.Index, err)
			return nil
		}
		s.known.blocks[b] = opened
	}
	return opened
}

// genuine fails when g releases what is no certificate.
func (s *Sim) genuine(g *gateway, c *signalbox.Certificate) {
	if s.known.certificates[c] {
		return
	}
	if _, err := rpc.OpenCertificate(g.book.trust, c.Raw); err != nil {
		s.fail("%s released what is no certificate: %v", g.name, err)
	}
	s.known.certificates[c] = true
}
