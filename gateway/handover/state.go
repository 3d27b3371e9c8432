package handover

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// stateVersion numbers the encoding of a state. Gateways of different versions
// decide no snapshot together.
const stateVersion = 2

// encoder writes a ledger down: the same bytes for the same log, whoever does it.
// Blocks are named by index and digest only, because of one block there may be
// several signatures. encode leaves nothing out that a later request asks for.
type encoder struct {
	l      *Ledger
	blocks map[uint64]*signalbox.DecidedBlock
	// promises are those of the register, by service.
	promises map[signalbox.Service]map[signalbox.Identity]lease.Promise
	err      error
}

func (l *Ledger) encode() ([]byte, []*signalbox.DecidedBlock, error) {
	if l.head == nil {
		return nil, nil, fmt.Errorf("%w: the log is empty", signalbox.ErrInvalid)
	}
	e := &encoder{l: l, blocks: map[uint64]*signalbox.DecidedBlock{}, promises: map[signalbox.Service]map[signalbox.Identity]lease.Promise{}}
	for of, p := range l.register.leases.Promises {
		if e.promises[of.Service] == nil {
			e.promises[of.Service] = map[signalbox.Identity]lease.Promise{}
		}
		e.promises[of.Service][of.Identity] = p
	}
	m := &wire.LedgerState{
		Version: stateVersion, Cluster: l.trust.Cluster, Index: e.block(l.head), Snapshot: l.snapshots.decided,
		LongestNano: int64(l.register.leases.Longest),
	}
	for _, b := range l.changes {
		m.Voters = append(m.Voters, e.block(b))
	}
	for _, id := range sorted(l.enrolled) {
		in := l.enrolled[id]
		m.Enrolled = append(m.Enrolled, &wire.StateInstance{
			Service: string(in.Service), DataCenter: string(in.DataCenter), Name: in.Name, PublicKey: in.PublicKey,
		})
	}
	for _, s := range l.Services() {
		m.Services = append(m.Services, e.service(l.services[s]))
	}
	for _, id := range l.register.ids {
		h := l.register.handovers[id]
		out := &wire.StateHandover{
			Id: h.ID, Index: h.Index, Service: string(h.Service), From: string(h.From), To: string(h.To), Term: uint64(h.Term),
			AtUnixNano: h.At.UnixNano(), Certified: uint64(h.Certified), SupersededBy: h.SupersededBy,
		}
		if !h.Ended.IsZero() {
			out.EndedUnixNano = h.Ended.UnixNano()
		}
		m.Handovers = append(m.Handovers, out)
	}
	var blocks []*signalbox.DecidedBlock
	for _, index := range sorted(e.blocks) {
		b := e.blocks[index]
		blocks = append(blocks, b)
		m.Blocks = append(m.Blocks, &wire.StateBlock{Index: b.Index, Digest: b.Digest[:]})
	}
	if e.err != nil {
		return nil, nil, e.err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err == nil && len(raw) > rpc.MaxState {
		err = fmt.Errorf("%w: the state has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), rpc.MaxState)
	}
	return raw, blocks, err
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// block notes that the state speaks of a block, and names it.
func (e *encoder) block(b *signalbox.DecidedBlock) uint64 {
	if b == nil {
		return 0
	}
	e.blocks[b.Index] = b
	return b.Index
}

func (e *encoder) request(r signalbox.Request) []byte {
	raw, err := rpc.EncodeRequest(&r)
	if err != nil && e.err == nil {
		e.err = err
	}
	return raw
}

func (e *encoder) service(st *ServiceState) *wire.StateService {
	m := &wire.StateService{
		Service: string(st.Service), Last: uint64(st.Last), Newest: e.block(st.Newest), Beyond: st.beyond, Policy: e.policy(&st.Policy),
	}
	if c := st.Certificate; c != nil {
		m.Certificate = &wire.StateCertificate{Term: uint64(c.Term), Block: e.block(c.Block)}
		for _, evidence := range c.Evidence {
			m.Certificate.Evidence = append(m.Certificate.Evidence, evidence.Envelope)
		}
	}
	for _, b := range st.Open {
		m.Open = append(m.Open, e.block(b))
	}
	for _, id := range sorted(st.Outstanding) {
		h := st.Outstanding[id]
		if e.l.enrolled[id].Identity != id && e.err == nil {
			e.err = fmt.Errorf("%w: %s of %s is outstanding and not enrolled", signalbox.ErrInvalid, id, st.Service)
		}
		m.Outstanding = append(m.Outstanding, &wire.StateHolder{Identity: rpc.IdentityToBytes(id), Admission: h.Admission, Leased: h.Leased})
	}
	for _, id := range sorted(st.Admissions) {
		m.Admissions = append(m.Admissions, &wire.StateIndex{Identity: rpc.IdentityToBytes(id), Index: e.block(st.Admissions[id])})
	}
	for _, id := range sorted(st.Announced) {
		a := st.Announced[id]
		m.Announced = append(m.Announced, &wire.StateAnnouncement{
			Removal: e.request(signalbox.Request{Remove: &a.Removal}), Index: a.Index, Digest: a.Digest[:],
		})
	}
	for _, id := range sorted(st.doubted) {
		m.Doubted = append(m.Doubted, &wire.StateIndex{Identity: rpc.IdentityToBytes(id), Index: st.doubted[id]})
	}
	for _, id := range sorted(e.promises[st.Service]) {
		p := e.promises[st.Service][id]
		m.Promised = append(m.Promised, &wire.StatePromise{Identity: rpc.IdentityToBytes(id), Below: uint64(p.Below), UpTo: p.UpTo})
	}
	for _, t := range st.Taken {
		m.Taken = append(m.Taken, &wire.StateTaken{Index: t.Index, What: t.What, By: t.By, Reason: t.Reason, AtUnixNano: t.At.UnixNano()})
	}
	return m
}

func (e *encoder) policy(s *policy.State) *wire.StatePolicy {
	m := &wire.StatePolicy{BrokenTotal: uint64(s.BrokenTotal)}
	if p := s.Pause; p != nil {
		m.Pause, m.SinceUnixNano = e.request(signalbox.Request{Pause: &p.Pause}), p.Since.UnixNano()
	}
	for i := range s.Waiting {
		w := &s.Waiting[i]
		out := &wire.StateWaiting{Approval: e.request(signalbox.Request{Approval: &w.Approval}), AtUnixNano: w.At.UnixNano()}
		for _, a := range w.Approved {
			out.Approved = append(out.Approved, &wire.StateApproved{By: a.By, Reason: a.Reason, AtUnixNano: a.At.UnixNano(), Key: rpc.IdentityToBytes(a.Key)})
		}
		m.Waiting = append(m.Waiting, out)
	}
	if v := s.Moved; v != nil {
		m.Moved = &wire.StateMoved{
			Id: v.ID, From: string(v.From), To: string(v.To), Term: uint64(v.Term), AtUnixNano: v.At.UnixNano(), By: v.By, Back: v.Back,
		}
	}
	for _, b := range s.Broken {
		out := &wire.StateBroken{Id: b.ID, Term: uint64(b.Term), By: b.By, AtUnixNano: b.At.UnixNano(), Reason: b.Reason}
		for _, rule := range b.Overrides {
			out.Overrides = append(out.Overrides, string(rule))
		}
		m.Broken = append(m.Broken, out)
	}
	m.StartedTotal = uint64(s.StartedTotal)
	for i := range s.Started {
		x := &s.Started[i]
		m.Started = append(m.Started, &wire.StateStarted{
			Identity: rpc.IdentityToBytes(x.Identity), Term: uint64(x.Term), By: x.By, Reason: x.Reason,
			AtUnixNano: x.At.UnixNano(), LoggedUnixNano: x.Logged.UnixNano(), Of: x.Of[:],
		})
	}
	for _, operator := range sorted(s.Said) {
		m.Said = append(m.Said, &wire.StateSaid{Operator: operator, AtUnixNano: s.Said[operator].UnixNano()})
	}
	return m
}
