package rpc

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// What gossip carries by hash, because it is larger than a packet, is a notice: a
// decided handover block or a certificate. The first byte says which; the rest is
// the signed bytes, verbatim.
const (
	noticeBlock       = 1
	noticeCertificate = 2
)

// Notice is one that was verified; one of the two is set.
type Notice struct {
	Block       *signalbox.DecidedBlock
	Certificate *signalbox.Certificate
}

// Seal returns the bytes that travel.
func (n Notice) Seal() []byte {
	if n.Certificate != nil {
		return append([]byte{noticeCertificate}, n.Certificate.Raw...)
	}
	return append([]byte{noticeBlock}, n.Block.Raw...)
}

// OpenNotice verifies a notice. It returns ErrInvalid for anything else than a
// certificate or a block that hands something over, and what OpenCertificate and
// OpenBlock return.
func OpenNotice(trust Trust, raw []byte) (n Notice, err error) {
	if len(raw) == 0 {
		return n, fmt.Errorf("open notice: %w: it is empty", signalbox.ErrInvalid)
	}
	switch raw[0] {
	case noticeCertificate:
		n.Certificate, err = OpenCertificate(trust, raw[1:])
	case noticeBlock:
		if n.Block, err = OpenBlock(trust, raw[1:]); err == nil && len(n.Terms()) == 0 {
			err = fmt.Errorf("open notice: %w: the block hands nothing over", signalbox.ErrInvalid)
		}
	default:
		err = fmt.Errorf("open notice: %w: kind %d", signalbox.ErrInvalid, raw[0])
	}
	if err != nil {
		return Notice{}, err
	}
	return n, nil
}

// Terms are the services that a notice is about, with the term of each.
func (n Notice) Terms() map[signalbox.Service]signalbox.Term {
	terms := map[signalbox.Service]signalbox.Term{}
	if n.Certificate != nil {
		terms[n.Certificate.Service] = n.Certificate.Term
		return terms
	}
	for i := range n.Block.Requests {
		if h := n.Block.Requests[i].Handover; h != nil {
			terms[h.Service] = h.Term
		}
	}
	return terms
}
