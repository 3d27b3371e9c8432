package handover

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// decoder reads a state that a quorum agreed on. What it says is believed; that
// it is complete, and what can be verified besides, is checked.
type decoder struct {
	l      *Ledger
	blocks map[uint64]*signalbox.DecidedBlock
}

// Restore returns the ledger of a verified snapshot (rpc.OpenSnapshot): for every
// later block it is what the whole log would give. The options are NewLedger's.
func Restore(trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error), file *rpc.SnapshotFile) (*Ledger, error) {
	l, err := restore(trust, enrollment, file)
	if err != nil {
		return nil, fmt.Errorf("restore snapshot of block %d: %w", file.Snapshot.Index, err)
	}
	return l, nil
}

func restore(trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error), file *rpc.SnapshotFile) (*Ledger, error) {
	var m wire.LedgerState
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(file.State, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", signalbox.ErrInvalid, err)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(&m)
	switch {
	case err != nil:
		return nil, err
	case m.Version != stateVersion:
		return nil, fmt.Errorf("%w: state of version %d, this program reads %d", signalbox.ErrInvalid, m.Version, stateVersion)
	case !bytes.Equal(again, file.State):
		return nil, fmt.Errorf("%w: the state says what this program does not know", signalbox.ErrInvalid)
	case m.Cluster != trust.Cluster || m.Index != file.Snapshot.Index:
		return nil, fmt.Errorf("%w: it is of block %d of cluster %q", signalbox.ErrUntrusted, m.Index, m.Cluster)
	}
	d := &decoder{l: NewLedger(trust, enrollment)}
	if d.blocks, err = meant(m.Blocks, file.Blocks); err != nil {
		return nil, err
	}
	l := d.l
	if l.head, err = d.block(m.Index); err != nil {
		return nil, err
	}
	for _, index := range m.Voters {
		b, err := d.block(index)
		if err != nil {
			return nil, err
		}
		if b.Voters() == nil || b.Epoch != l.voters.Epoch {
			return nil, fmt.Errorf("%w: block %d does not change the voters of epoch %d", signalbox.ErrInvalid, index, l.voters.Epoch)
		}
		if err := l.applyVoters(b); err != nil {
			return nil, err
		}
	}
	l.index, l.digest, l.snapshots.decided = l.head.Index, l.head.Digest, m.Snapshot
	l.register.leases.Longest = time.Duration(m.LongestNano)
	for _, in := range m.Enrolled {
		if len(in.PublicKey) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: the key of %s has %d bytes", signalbox.ErrInvalid, in.Name, len(in.PublicKey))
		}
		id := rpc.IdentityOf(in.PublicKey)
		l.enrolled[id] = signalbox.Instance{
			Service: signalbox.Service(in.Service), DataCenter: signalbox.DataCenter(in.DataCenter), Name: in.Name, Identity: id, PublicKey: in.PublicKey,
		}
	}
	for _, s := range m.Services {
		if err := d.service(s); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Service, err)
		}
	}
	for _, h := range m.Handovers {
		decided := DecidedHandover{
			ID: h.Id, Index: h.Index, Service: signalbox.Service(h.Service), From: signalbox.DataCenter(h.From), To: signalbox.DataCenter(h.To),
			Term: signalbox.Term(h.Term), At: time.Unix(0, h.AtUnixNano), Certified: signalbox.Term(h.Certified), SupersededBy: h.SupersededBy,
		}
		if h.EndedUnixNano != 0 {
			decided.Ended = time.Unix(0, h.EndedUnixNano)
		}
		l.register.remember(decided)
	}
	l.snapshots.candidate = &Candidate{Snapshot: file.Snapshot, State: file.State, Blocks: file.Blocks, At: l.head.At}
	return l, nil
}

// meant returns the blocks that a state speaks of, all of them and no others.
func meant(named []*wire.StateBlock, have []*signalbox.DecidedBlock) (map[uint64]*signalbox.DecidedBlock, error) {
	if len(named) != len(have) {
		return nil, fmt.Errorf("%w: it speaks of %d blocks and has %d", signalbox.ErrInvalid, len(named), len(have))
	}
	out := map[uint64]*signalbox.DecidedBlock{}
	for i, n := range named {
		if have[i].Index != n.Index || !bytes.Equal(have[i].Digest[:], n.Digest) {
			return nil, fmt.Errorf("%w: it speaks of block %d (%x) and has block %d (%s) there", signalbox.ErrUntrusted, n.Index, n.Digest, have[i].Index, have[i].Digest)
		}
		out[n.Index] = have[i]
	}
	return out, nil
}

func (d *decoder) block(index uint64) (*signalbox.DecidedBlock, error) {
	b := d.blocks[index]
	if b == nil {
		return nil, fmt.Errorf("%w: block %d is missing", signalbox.ErrInvalid, index)
	}
	return b, nil
}

// handover returns a block that has a handover of a service.
func (d *decoder) handover(index uint64, s signalbox.Service) (*signalbox.DecidedBlock, error) {
	b, err := d.block(index)
	if err == nil && b.Handover(s) == nil {
		err = fmt.Errorf("%w: block %d has no handover of it", signalbox.ErrInvalid, index)
	}
	return b, err
}

func (d *decoder) service(m *wire.StateService) (err error) {
	name := signalbox.Service(m.Service)
	if err := signalbox.CheckName("service", m.Service); err != nil {
		return err
	}
	st := d.l.state(name)
	st.Last, st.beyond = signalbox.Term(m.Last), m.Beyond
	if c := m.Certificate; c != nil {
		b, err := d.handover(c.Block, name)
		if err != nil {
			return err
		}
		if st.Certificate, err = rpc.BuildCertificate(d.l.trust, b, name, signalbox.Term(c.Term), c.Evidence); err != nil {
			return err
		}
	}
	if m.Newest != 0 {
		if st.Newest, err = d.handover(m.Newest, name); err != nil {
			return err
		}
	}
	for _, index := range m.Open {
		b, err := d.handover(index, name)
		if err != nil {
			return err
		}
		st.Open = append(st.Open, b)
	}
	if err := d.holders(st, m); err != nil {
		return err
	}
	for _, t := range m.Taken {
		st.Taken = append(st.Taken, Taken{Index: t.Index, What: t.What, By: t.By, Reason: t.Reason, At: time.Unix(0, t.AtUnixNano)})
	}
	return d.policy(&st.Policy, m.Policy)
}

// holders reads what the state says about identities.
func (d *decoder) holders(st *ServiceState, m *wire.StateService) error {
	var err error
	identity := func(raw []byte) signalbox.Identity {
		id, problem := rpc.IdentityFromBytes(raw)
		if problem != nil && err == nil {
			err = problem
		}
		return id
	}
	for _, h := range m.Outstanding {
		id := identity(h.Identity)
		in, ok := d.l.enrolled[id]
		if !ok {
			return fmt.Errorf("%w: %x is outstanding and not enrolled", signalbox.ErrInvalid, h.Identity)
		}
		st.Outstanding[id] = Holder{Instance: in, Admission: h.Admission, Leased: h.Leased}
	}
	for _, a := range m.Admissions {
		b, missing := d.block(a.Index)
		if missing != nil {
			return missing
		}
		st.Admissions[identity(a.Identity)] = b
	}
	for _, a := range m.Announced {
		r, invalid := rpc.DecodeRequest(a.Removal)
		if invalid != nil || r.Remove == nil || len(a.Digest) != len(signalbox.Digest{}) {
			return fmt.Errorf("%w: announced removal (%w)", signalbox.ErrInvalid, invalid)
		}
		st.Announced[r.Remove.Identity] = &Announcement{Removal: *r.Remove, Index: a.Index, Digest: signalbox.Digest(a.Digest)}
	}
	for _, v := range m.Doubted {
		st.doubted[identity(v.Identity)] = v.Index
	}
	for _, p := range m.Promised {
		d.l.register.leases.Apply(lease.Change{
			Of: lease.Of{Service: st.Service, Identity: identity(p.Identity)}, Promise: lease.Promise{Below: signalbox.Term(p.Below), UpTo: p.UpTo},
		})
	}
	return err
}

func (d *decoder) started(s *policy.State, m *wire.StatePolicy) error {
	s.StartedTotal = int(m.GetStartedTotal())
	for _, x := range m.GetStarted() {
		id, err := rpc.IdentityFromBytes(x.GetIdentity())
		if err != nil || len(x.GetOf()) != len(signalbox.Digest{}) || len(m.GetStarted()) > policy.MaxStarted {
			return fmt.Errorf("%w: start without a quorum (%w)", signalbox.ErrInvalid, err)
		}
		s.Started = append(s.Started, policy.Started{
			Identity: id, Term: signalbox.Term(x.GetTerm()), By: x.GetBy(), Reason: x.GetReason(),
			At: time.Unix(0, x.GetAtUnixNano()), Logged: time.Unix(0, x.GetLoggedUnixNano()), Of: signalbox.Digest(x.GetOf()),
		})
	}
	return nil
}

func (d *decoder) policy(s *policy.State, m *wire.StatePolicy) error {
	s.BrokenTotal = int(m.GetBrokenTotal())
	if raw := m.GetPause(); len(raw) > 0 {
		r, err := rpc.DecodeRequest(raw)
		if err != nil || r.Pause == nil {
			return fmt.Errorf("%w: pause (%w)", signalbox.ErrInvalid, err)
		}
		s.Pause = &policy.Paused{Pause: *r.Pause, Since: time.Unix(0, m.SinceUnixNano)}
	}
	for _, w := range m.GetWaiting() {
		r, err := rpc.DecodeRequest(w.Approval)
		if err != nil || r.Approval == nil || r.Approval.Order == nil {
			return fmt.Errorf("%w: order (%w)", signalbox.ErrInvalid, err)
		}
		out := policy.Waiting{Approval: *r.Approval, At: time.Unix(0, w.AtUnixNano)}
		if m := r.Approval.Mandate; m != nil {
			out.Signed = sha256.Sum256(m.Proof)
		}
		for _, a := range w.Approved {
			by := policy.Approved{By: a.By, Reason: a.Reason, At: time.Unix(0, a.AtUnixNano)}
			if len(a.Key) > 0 {
				if by.Key, err = rpc.IdentityFromBytes(a.Key); err != nil {
					return err
				}
			}
			out.Approved = append(out.Approved, by)
		}
		s.Waiting = append(s.Waiting, out)
	}
	if err := d.started(s, m); err != nil {
		return err
	}
	for _, said := range m.GetSaid() {
		if s.Said == nil {
			s.Said = map[string]time.Time{}
		}
		s.Said[said.Operator] = time.Unix(0, said.AtUnixNano)
	}
	if v := m.GetMoved(); v != nil {
		s.Moved = &policy.Moved{
			ID: v.Id, From: signalbox.DataCenter(v.From), To: signalbox.DataCenter(v.To), Term: signalbox.Term(v.Term),
			At: time.Unix(0, v.AtUnixNano), By: v.By, Back: v.Back,
		}
	}
	for _, b := range m.GetBroken() {
		glass := signalbox.BreakGlass{Reason: b.Reason}
		for _, rule := range b.Overrides {
			glass.Overrides = append(glass.Overrides, signalbox.SafetyRule(rule))
		}
		s.Broken = append(s.Broken, policy.Broken{BreakGlass: glass, ID: b.Id, Term: signalbox.Term(b.Term), By: b.By, At: time.Unix(0, b.AtUnixNano)})
	}
	return nil
}
