package agreement

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// Encode returns the message's bytes for another voter.
func (m *Message) Encode() ([]byte, error) {
	w := &wire.Agreement{Version: rpc.Version, Epoch: m.Epoch, Slot: m.Slot, View: m.View}
	switch m.Kind {
	case Request:
		w.Kind = &wire.Agreement_Request{Request: m.Value}
	case Proposal:
		w.Kind = &wire.Agreement_Proposal{Proposal: &wire.AgreementProposal{
			Block: m.Value, Justify: quorumToWire(m.Quorum), Change: changeToWire(m.Change),
		}}
	case VoteOne:
		w.Kind = &wire.Agreement_VoteOne{VoteOne: m.Share}
	case Certified:
		w.Kind = &wire.Agreement_Certified{Certified: quorumToWire(m.Quorum)}
	case VoteTwo:
		w.Kind = &wire.Agreement_VoteTwo{VoteTwo: m.Share}
	case Decided:
		w.Kind = &wire.Agreement_Decision{Decision: quorumToWire(m.Quorum)}
	case Timeout:
		w.Kind = &wire.Agreement_Timeout{Timeout: &wire.AgreementTimeout{
			Share: m.Share, High: quorumToWire(m.Quorum), Change: changeToWire(m.Change),
		}}
	case Want:
		w.Kind = &wire.Agreement_Want{Want: m.Digest[:]}
	case Value:
		w.Kind = &wire.Agreement_Value{Value: m.Value}
	default:
		return nil, fmt.Errorf("%w: agreement message of kind %d", signalbox.ErrInvalid, m.Kind)
	}
	raw, err := proto.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode agreement message: %w", err)
	}
	return raw, nil
}

// Decode reads a message from another voter: its form and bounds, not whether
// it is true. Errors wrap ErrInvalid.
func Decode(raw []byte) (*Message, error) {
	if len(raw) == 0 || len(raw) > MaxMessage {
		return nil, fmt.Errorf("%w: agreement message has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxMessage)
	}
	var w wire.Agreement
	if err := proto.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("%w: agreement message: %w", signalbox.ErrInvalid, err)
	}
	if w.Version != rpc.Version {
		return nil, fmt.Errorf("%w: agreement message of version %d, this program speaks %d", signalbox.ErrInvalid, w.Version, rpc.Version)
	}
	m := &Message{Epoch: w.Epoch, Slot: w.Slot, View: w.View}
	if err := m.kindFromWire(&w); err != nil {
		return nil, fmt.Errorf("agreement message: %w", err)
	}
	return m, m.checkForm()
}

func (m *Message) kindFromWire(w *wire.Agreement) (err error) {
	switch k := w.Kind.(type) {
	case *wire.Agreement_Request:
		m.Kind, m.Value = Request, k.Request
	case *wire.Agreement_Proposal:
		m.Kind, m.Value = Proposal, k.Proposal.GetBlock()
		if m.Quorum, err = quorumFromWire(k.Proposal.GetJustify()); err == nil {
			m.Change, err = changeFromWire(k.Proposal.GetChange())
		}
	case *wire.Agreement_VoteOne:
		m.Kind, m.Share = VoteOne, k.VoteOne
	case *wire.Agreement_Certified:
		m.Kind = Certified
		m.Quorum, err = quorumFromWire(k.Certified)
	case *wire.Agreement_VoteTwo:
		m.Kind, m.Share = VoteTwo, k.VoteTwo
	case *wire.Agreement_Decision:
		m.Kind = Decided
		m.Quorum, err = quorumFromWire(k.Decision)
	case *wire.Agreement_Timeout:
		m.Kind, m.Share = Timeout, k.Timeout.GetShare()
		if m.Quorum, err = quorumFromWire(k.Timeout.GetHigh()); err == nil {
			m.Change, err = changeFromWire(k.Timeout.GetChange())
		}
	case *wire.Agreement_Want:
		m.Kind = Want
		m.Digest, err = digestFromWire(k.Want)
	case *wire.Agreement_Value:
		m.Kind, m.Value = Value, k.Value
	}
	return err
}

// checkForm refuses what has no sense or is too large.
func (m *Message) checkForm() error {
	switch {
	case m.Kind == 0:
		return fmt.Errorf("%w: agreement message of a kind this program does not know", signalbox.ErrInvalid)
	case len(m.Value) > MaxValue:
		return fmt.Errorf("%w: %s of %d bytes, at most %d", signalbox.ErrInvalid, m.Kind, len(m.Value), MaxValue)
	case len(m.Share) > MaxShare:
		return fmt.Errorf("%w: %s with a share of %d bytes", signalbox.ErrInvalid, m.Kind, len(m.Share))
	case (m.Kind == Certified || m.Kind == Decided) && m.Quorum == nil:
		return fmt.Errorf("%w: %s without a certificate", signalbox.ErrInvalid, m.Kind)
	case m.Kind != Request && (m.Slot == 0 || m.View == 0):
		return fmt.Errorf("%w: %s for slot %d, view %d: they count from 1", signalbox.ErrInvalid, m.Kind, m.Slot, m.View)
	}
	return nil
}

func quorumToWire(q *Quorum) *wire.AgreementQuorum {
	if q == nil {
		return nil
	}
	return &wire.AgreementQuorum{View: q.View, Digest: q.Digest[:], Signature: q.Signature}
}

func quorumFromWire(m *wire.AgreementQuorum) (*Quorum, error) {
	if m == nil {
		return nil, nil
	}
	d, err := digestFromWire(m.Digest)
	if err != nil {
		return nil, err
	}
	if len(m.Signature) > MaxSignature || m.View == 0 {
		return nil, fmt.Errorf("%w: certificate of view %d with %d bytes", signalbox.ErrInvalid, m.View, len(m.Signature))
	}
	return &Quorum{View: m.View, Digest: d, Signature: m.Signature}, nil
}

func changeToWire(c *Change) *wire.AgreementViewChange {
	if c == nil {
		return nil
	}
	m := &wire.AgreementViewChange{View: c.View}
	for _, e := range c.Ended {
		m.Ended = append(m.Ended, &wire.AgreementEnded{Voter: uint32(e.Voter), High: e.High, Share: e.Share})
	}
	return m
}

func changeFromWire(m *wire.AgreementViewChange) (*Change, error) {
	if m == nil {
		return nil, nil
	}
	if len(m.Ended) > signature.MaxVoters {
		return nil, fmt.Errorf("%w: view change of %d voters", signalbox.ErrInvalid, len(m.Ended))
	}
	c := &Change{View: m.View}
	for _, e := range m.Ended {
		if len(e.GetShare()) > MaxShare || e.GetVoter() >= signature.MaxVoters {
			return nil, fmt.Errorf("%w: view change of voter %d with a share of %d bytes", signalbox.ErrInvalid, e.GetVoter(), len(e.GetShare()))
		}
		c.Ended = append(c.Ended, Ended{Voter: int(e.GetVoter()), High: e.GetHigh(), Share: e.GetShare()})
	}
	return c, nil
}

func digestFromWire(raw []byte) (d signalbox.Digest, err error) {
	if len(raw) != len(d) {
		return d, fmt.Errorf("%w: digest of %d bytes", signalbox.ErrInvalid, len(raw))
	}
	return signalbox.Digest(raw), nil
}
