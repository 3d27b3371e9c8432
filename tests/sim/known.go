package sim

import (
	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// known is what was read and verified in this history: the same bytes say the same
// to everybody, so that one look is enough. Nobody changes what is in it.
type known struct {
	requests     map[[32]byte]*signalbox.Request
	blocks       map[*signalbox.DecidedBlock]*signalbox.DecidedBlock
	certificates map[*signalbox.Certificate]bool
}

func newKnown() known {
	return known{
		map[[32]byte]*signalbox.Request{}, map[*signalbox.DecidedBlock]*signalbox.DecidedBlock{}, map[*signalbox.Certificate]bool{},
	}
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
		if opened, err = rpc.OpenBlock(s.trust(), b.Raw); err != nil {
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
	if _, err := rpc.OpenCertificate(s.trust(), c.Raw); err != nil {
		s.fail("%s released what is no certificate: %v", g.name, err)
	}
	s.known.certificates[c] = true
}
