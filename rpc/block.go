package rpc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// QuorumVerifier checks the combined signature of a quorum of voters. Package
// membership/signature has the implementations.
type QuorumVerifier interface {
	// VerifyQuorum returns nil when signature is of scheme and carries at least
	// a quorum of distinct voters over message; else an error that wraps
	// ErrUntrusted or ErrInvalid.
	VerifyQuorum(scheme string, message, signature []byte) error
}

// Trust is what a verifier has to know beforehand: public data only.
type Trust struct {
	Cluster string
	Quorum  QuorumVerifier
	// Epochs knows the voters of every epoch. nil: Quorum verifies whatever epoch
	// a block names, and the voters never change.
	Epochs *Epochs
	// Fencers may sign fences; FenceQuorum of them have to (r + 1, at least 1).
	Fencers     SignerLookup
	FenceQuorum int
	// Operators may attest; operatorKeys are an operator's keys by its name, for
	// changes of voters.
	Operators    SignerLookup
	operatorKeys func(name string) []ed25519.PublicKey
	// SignersOf names the voters of a set's combined signature, for people; may
	// be nil.
	SignersOf func(epoch uint64, signature []byte) []string
	// Single checks the signature of one key: an instance's, an operator's or a
	// gateway's. nil is Ed25519, and what every process uses; simulations have
	// something faster here.
	Single SingleVerifier
}

// A SingleVerifier reports whether a signature over a message is the key's.
type SingleVerifier func(key ed25519.PublicKey, message, signature []byte) bool

func (t Trust) single() SingleVerifier {
	if t.Single == nil {
		return ed25519.Verify
	}
	return t.Single
}

// WithOperators returns the trust with the keys of operators by their names.
func (t Trust) WithOperators(keys func(name string) []ed25519.PublicKey) Trust {
	t.operatorKeys = keys
	return t
}

// OperatorKeys are the keys of an operator.
func (t *Trust) OperatorKeys(name string) []ed25519.PublicKey {
	if t.operatorKeys == nil {
		return nil
	}
	return t.operatorKeys(name)
}

// quorumOf verifies what the voters of an epoch signed: the block of an index,
// or, with index 0, anything else.
func (t *Trust) quorumOf(epoch, index uint64) (QuorumVerifier, error) {
	if t.Epochs == nil {
		return t.Quorum, nil
	}
	return t.Epochs.quorum(epoch, index)
}

// EncodeBlock returns the bytes that voters sign. They are what the block is
// from then on.
func EncodeBlock(b *signalbox.Block) ([]byte, error) {
	m := &wire.Block{
		Cluster: b.Cluster, Epoch: b.Epoch, Index: b.Index, AtUnixNano: b.At.UnixNano(), Proposer: b.Proposer,
	}
	if !b.Prev.IsZero() {
		m.Prev = b.Prev[:]
	}
	for i := range b.Requests {
		r, err := requestToWire(&b.Requests[i])
		if err != nil {
			return nil, fmt.Errorf("encode request %d: %w", i, err)
		}
		m.Requests = append(m.Requests, r)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode block: %w", err)
	}
	if len(raw) > MaxBlock/2 {
		return nil, fmt.Errorf("%w: block has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxBlock/2)
	}
	return raw, nil
}

// BlockDigest is the digest of a block's bytes.
func BlockDigest(raw []byte) signalbox.Digest { return sha256.Sum256(raw) }

// SealBlock joins a block's bytes and the signature of a cluster's only voter.
func SealBlock(block []byte, scheme string, signature []byte) (*signalbox.DecidedBlock, error) {
	return SealDecision(block, 0, scheme, signature)
}

// OpenBlock verifies a decided block against the voters' keys.
func OpenBlock(trust Trust, raw []byte) (*signalbox.DecidedBlock, error) {
	if len(raw) == 0 || len(raw) > MaxBlock {
		return nil, fmt.Errorf("%w: decided block has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxBlock)
	}
	var m wire.QuorumEnvelope
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: decided block: %w", signalbox.ErrInvalid, err)
	}
	if m.Version != Version {
		return nil, fmt.Errorf("%w: decided block of version %d, this program speaks %d", signalbox.ErrInvalid, m.Version, Version)
	}
	b, err := decodeBlock(m.Block)
	if err != nil {
		return nil, err
	}
	quorum, err := trust.quorumOf(b.Epoch, b.Index)
	if err == nil {
		err = quorum.VerifyQuorum(m.Scheme, DecisionInput(trust.Cluster, m.View, m.Block), m.Signature)
	}
	if err != nil {
		return nil, fmt.Errorf("verify block: %w", err)
	}
	if b.Cluster != trust.Cluster {
		return nil, fmt.Errorf("%w: block of cluster %q, this is %q", signalbox.ErrUntrusted, b.Cluster, trust.Cluster)
	}
	return &signalbox.DecidedBlock{Block: *b, Digest: BlockDigest(m.Block), Raw: raw}, nil
}

func decodeBlock(raw []byte) (*signalbox.Block, error) {
	var m wire.Block
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: block: %w", signalbox.ErrInvalid, err)
	}
	if len(m.Requests) > MaxRequests {
		return nil, fmt.Errorf("%w: block has %d requests, at most %d", signalbox.ErrInvalid, len(m.Requests), MaxRequests)
	}
	prev, err := digestFrom(m.Prev)
	if err != nil {
		return nil, err
	}
	b := &signalbox.Block{Cluster: m.Cluster, Epoch: m.Epoch, Index: m.Index, Prev: prev, At: time.Unix(0, m.AtUnixNano), Proposer: m.Proposer}
	seen := map[signalbox.Service]bool{}
	for i, r := range m.Requests {
		req, err := requestFromWire(r)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		if seen[req.Service()] {
			return nil, fmt.Errorf("%w: block has two requests for service %q", signalbox.ErrInvalid, req.Service())
		}
		seen[req.Service()] = true
		b.Requests = append(b.Requests, *req)
	}
	if b.Voters() != nil && len(b.Requests) > 1 {
		return nil, fmt.Errorf("%w: a change of voters is alone in its block", signalbox.ErrInvalid)
	}
	return b, nil
}

// EncodeRequest returns a request's bytes, for proposing it.
func EncodeRequest(r *signalbox.Request) ([]byte, error) {
	m, err := requestToWire(r)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

// DecodeRequest reads a proposed request. It checks form, not rules.
func DecodeRequest(raw []byte) (*signalbox.Request, error) {
	if len(raw) > MaxBlock/2 {
		return nil, fmt.Errorf("%w: request has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxBlock/2)
	}
	var m wire.Request
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: request: %w", signalbox.ErrInvalid, err)
	}
	return requestFromWire(&m)
}

func requestToWire(r *signalbox.Request) (*wire.Request, error) {
	switch {
	case r.Handover != nil:
		h, err := handoverToWire(r.Handover)
		return &wire.Request{Kind: &wire.Request_Handover{Handover: h}}, err
	case r.Admit != nil:
		return &wire.Request{Kind: &wire.Request_Admit{Admit: &wire.Admission{
			Term: uint64(r.Admit.Term), Enrollment: r.Admit.Enrollment,
		}}}, nil
	case r.Outcome != nil:
		o := r.Outcome
		return &wire.Request{Kind: &wire.Request_Outcome{Outcome: &wire.Outcome{
			Service: string(o.Service), Block: o.Block[:], Certified: uint64(o.Certified), Evidence: o.Evidence,
		}}}, nil
	case r.Remove != nil:
		id, err := identityBytes(r.Remove.Identity)
		return &wire.Request{Kind: &wire.Request_Remove{Remove: &wire.Removal{
			Service: string(r.Remove.Service), Identity: id, Evidence: r.Remove.Evidence,
			Admission: r.Remove.Admission, Below: uint64(r.Remove.Below), Allowed: uint32(r.Remove.Allowed),
			By: r.Remove.By, Reason: r.Remove.Reason,
		}}}, err
	case r.Pause != nil:
		return &wire.Request{Kind: &wire.Request_Pause{Pause: pauseToWire(r.Pause)}}, nil
	case r.Approval != nil:
		return &wire.Request{Kind: &wire.Request_Approval{Approval: approvalToWire(r.Approval)}}, nil
	case r.Snapshot != nil:
		return &wire.Request{Kind: &wire.Request_Snapshot{Snapshot: &wire.Snapshot{Index: r.Snapshot.Index, Digest: r.Snapshot.Digest[:]}}}, nil
	case r.Started != nil:
		return &wire.Request{Kind: &wire.Request_AttestedStart{AttestedStart: mandateToWire(r.Started)}}, nil
	case r.Voters != nil:
		return &wire.Request{Kind: &wire.Request_Voters{Voters: votersToWire(r.Voters)}}, nil
	}
	return nil, fmt.Errorf("%w: empty request", signalbox.ErrInvalid)
}

func handoverToWire(h *signalbox.Handover) (*wire.Handover, error) {
	m := &wire.Handover{
		Id: h.ID, Service: string(h.Service), Term: uint64(h.Term), Fallback: uint64(h.Fallback),
		From: string(h.From), To: string(h.To), Allowed: uint32(h.Allowed),
		HoldBudgetNano: int64(h.HoldBudget), AllowLateProxies: h.AllowLateProxies, By: h.By, Reason: h.Reason,
		Streams: uint32(h.Streams), Singleton: h.Singleton, Leases: leasesToWire(h.Leases), FallbackLeases: leasesToWire(h.FallbackLeases),
		BreakGlass: breakGlassToWire(h.BreakGlass), Mandate: mandateToWire(h.Mandate),
	}
	if h.Previous != "" {
		b, err := identityBytes(h.Previous)
		if err != nil {
			return nil, err
		}
		m.Previous = b
	}
	for _, id := range h.Incoming {
		b, err := identityBytes(id)
		if err != nil {
			return nil, err
		}
		m.Incoming = append(m.Incoming, b)
	}
	for _, e := range h.Roster {
		if len(e.PublicKey) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: roster key of %s has %d bytes", signalbox.ErrInvalid, e.Name, len(e.PublicKey))
		}
		m.Roster = append(m.Roster, &wire.RosterEntry{
			PublicKey: e.PublicKey, Name: e.Name, DataCenter: string(e.DataCenter), Admission: e.Admission, Leased: e.Leased,
		})
	}
	return m, nil
}

func requestFromWire(m *wire.Request) (*signalbox.Request, error) {
	switch k := m.GetKind().(type) {
	case *wire.Request_Handover:
		h, err := handoverFromWire(k.Handover)
		return &signalbox.Request{Handover: h}, err
	case *wire.Request_Admit:
		a, err := admissionFromWire(k.Admit)
		return &signalbox.Request{Admit: a}, err
	case *wire.Request_Outcome:
		return outcomeFromWire(k.Outcome)
	case *wire.Request_Remove:
		return removalFromWire(k.Remove)
	case *wire.Request_Pause:
		p, err := pauseFromWire(k.Pause)
		return &signalbox.Request{Pause: p}, err
	case *wire.Request_Approval:
		a, err := approvalFromWire(k.Approval)
		return &signalbox.Request{Approval: a}, err
	case *wire.Request_Snapshot:
		digest, err := digestFrom(k.Snapshot.GetDigest())
		if err == nil && k.Snapshot.GetIndex() == 0 {
			err = fmt.Errorf("%w: snapshot of an empty log", signalbox.ErrInvalid)
		}
		return &signalbox.Request{Snapshot: &signalbox.Snapshot{Index: k.Snapshot.GetIndex(), Digest: digest}}, err
	case *wire.Request_AttestedStart:
		return startedFromWire(k.AttestedStart)
	case *wire.Request_Voters:
		v, err := votersFromWire(k.Voters)
		return &signalbox.Request{Voters: v}, err
	}
	return nil, fmt.Errorf("%w: request of a kind this program does not know", signalbox.ErrInvalid)
}

func outcomeFromWire(m *wire.Outcome) (*signalbox.Request, error) {
	digest, err := digestFrom(m.GetBlock())
	if err != nil {
		return nil, err
	}
	if err := signalbox.CheckName("service", m.GetService()); err != nil {
		return nil, err
	}
	if len(m.GetEvidence()) > signalbox.MaxRoster {
		return nil, fmt.Errorf("%w: outcome carries %d pieces of evidence, at most %d", signalbox.ErrInvalid, len(m.GetEvidence()), signalbox.MaxRoster)
	}
	for _, e := range m.GetEvidence() {
		if len(e) > MaxEvidence {
			return nil, fmt.Errorf("%w: outcome's evidence has %d bytes, at most %d", signalbox.ErrInvalid, len(e), MaxEvidence)
		}
	}
	return &signalbox.Request{Outcome: &signalbox.Outcome{
		Service: signalbox.Service(m.GetService()), Block: digest,
		Certified: signalbox.Term(m.GetCertified()), Evidence: m.GetEvidence(),
	}}, nil
}

func removalFromWire(m *wire.Removal) (*signalbox.Request, error) {
	id, err := IdentityFromBytes(m.GetIdentity())
	if err != nil {
		return nil, err
	}
	if err := signalbox.CheckName("service", m.GetService()); err != nil {
		return nil, err
	}
	switch {
	case len(m.GetEvidence()) > MaxEvidence:
		return nil, fmt.Errorf("%w: removal's evidence has %d bytes", signalbox.ErrInvalid, len(m.GetEvidence()))
	case len(m.GetBy()) > signalbox.MaxReason || len(m.GetReason()) > signalbox.MaxReason:
		return nil, fmt.Errorf("%w: removal's by or reason is longer than %d bytes", signalbox.ErrInvalid, signalbox.MaxReason)
	case m.GetAllowed() > 0xff:
		return nil, fmt.Errorf("%w: evidence kinds %#x", signalbox.ErrInvalid, m.GetAllowed())
	}
	return &signalbox.Request{Remove: &signalbox.Removal{
		Service: signalbox.Service(m.GetService()), Identity: id, Evidence: m.GetEvidence(),
		Admission: m.GetAdmission(), Below: signalbox.Term(m.GetBelow()), Allowed: signalbox.EvidenceKinds(m.GetAllowed()),
		By: m.GetBy(), Reason: m.GetReason(),
	}}, nil
}

func leasesToWire(l signalbox.Leases) *wire.LeaseTerms {
	if l == (signalbox.Leases{}) {
		return nil
	}
	return &wire.LeaseTerms{TtlNano: int64(l.TTL), DriftPpm: l.Drift}
}

func leasesFromWire(m *wire.LeaseTerms) (signalbox.Leases, error) {
	l := signalbox.Leases{TTL: time.Duration(m.GetTtlNano()), Drift: m.GetDriftPpm()}
	return l, l.Check()
}

func handoverFromWire(m *wire.Handover) (*signalbox.Handover, error) {
	for what, name := range map[string]string{"service": m.GetService(), "data center (to)": m.GetTo()} {
		if err := signalbox.CheckName(what, name); err != nil {
			return nil, err
		}
	}
	if m.GetFrom() != "" {
		if err := signalbox.CheckName("data center (from)", m.GetFrom()); err != nil {
			return nil, err
		}
	}
	switch {
	case len(m.GetIncoming()) > signalbox.MaxRoster || len(m.GetRoster()) > signalbox.MaxRoster:
		return nil, fmt.Errorf("%w: handover names more than %d identities", signalbox.ErrInvalid, signalbox.MaxRoster)
	case len(m.GetId()) > signalbox.MaxName*2 || m.GetId() == "":
		return nil, fmt.Errorf("%w: handover id has %d bytes", signalbox.ErrInvalid, len(m.GetId()))
	case len(m.GetBy()) > signalbox.MaxReason || len(m.GetReason()) > signalbox.MaxReason:
		return nil, fmt.Errorf("%w: by or reason is longer than %d bytes", signalbox.ErrInvalid, signalbox.MaxReason)
	case m.GetAllowed() > 0xff:
		return nil, fmt.Errorf("%w: evidence kinds %#x", signalbox.ErrInvalid, m.GetAllowed())
	case m.GetTerm() == 0 || m.GetFallback() != 0 && m.GetFallback()-1 != m.GetTerm():
		return nil, fmt.Errorf("%w: handover to term %d with fallback %d: want a term from 1 on, and the next one or none as fallback", signalbox.ErrInvalid, m.GetTerm(), m.GetFallback())
	case m.GetStreams() > uint32(signalbox.StreamsAbort):
		return nil, fmt.Errorf("%w: streams policy %d", signalbox.ErrInvalid, m.GetStreams())
	case m.GetHoldBudgetNano() < 0 || time.Duration(m.GetHoldBudgetNano()) > signalbox.MaxHoldBudget:
		return nil, fmt.Errorf("%w: hold budget %s, at most %s", signalbox.ErrInvalid, time.Duration(m.GetHoldBudgetNano()), signalbox.MaxHoldBudget)
	}
	h := &signalbox.Handover{
		ID: m.GetId(), Service: signalbox.Service(m.GetService()), Term: signalbox.Term(m.GetTerm()),
		Fallback: signalbox.Term(m.GetFallback()), From: signalbox.DataCenter(m.GetFrom()), To: signalbox.DataCenter(m.GetTo()),
		Allowed: signalbox.EvidenceKinds(m.GetAllowed()), HoldBudget: time.Duration(m.GetHoldBudgetNano()),
		AllowLateProxies: m.GetAllowLateProxies(), By: m.GetBy(), Reason: m.GetReason(), Singleton: m.GetSingleton(),
		Streams: signalbox.StreamPolicy(m.GetStreams()),
	}
	var err error
	if h.Leases, err = leasesFromWire(m.GetLeases()); err != nil {
		return nil, err
	}
	if h.FallbackLeases, err = leasesFromWire(m.GetFallbackLeases()); err != nil {
		return nil, err
	}
	if h.BreakGlass, err = breakGlassFromWire(m.GetBreakGlass()); err != nil {
		return nil, err
	}
	if h.Mandate, err = mandateFromWire(m.GetMandate()); err != nil {
		return nil, err
	}
	return h, identitiesFromWire(h, m)
}

// identitiesFromWire reads incoming identities and roster. Each stands once: a
// second roster entry of an identity could ask for evidence of another
// admission than the one that is looked at.
func identitiesFromWire(h *signalbox.Handover, m *wire.Handover) error {
	incoming, listed := map[signalbox.Identity]bool{}, map[signalbox.Identity]bool{}
	if b := m.GetPrevious(); len(b) > 0 {
		id, err := IdentityFromBytes(b)
		if err != nil {
			return err
		}
		h.Previous = id
	}
	for _, b := range m.GetIncoming() {
		id, err := IdentityFromBytes(b)
		if err != nil {
			return err
		}
		if incoming[id] {
			return fmt.Errorf("%w: incoming identity %s stands twice", signalbox.ErrInvalid, id)
		}
		incoming[id] = true
		h.Incoming = append(h.Incoming, id)
	}
	for _, e := range m.GetRoster() {
		if len(e.GetPublicKey()) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: roster key has %d bytes", signalbox.ErrInvalid, len(e.GetPublicKey()))
		}
		if len(e.GetName()) > signalbox.MaxName || len(e.GetDataCenter()) > signalbox.MaxName {
			return fmt.Errorf("%w: roster entry's name or data center is longer than %d bytes", signalbox.ErrInvalid, signalbox.MaxName)
		}
		id := IdentityOf(e.GetPublicKey())
		if listed[id] {
			return fmt.Errorf("%w: roster identity %s stands twice", signalbox.ErrInvalid, id)
		}
		listed[id] = true
		h.Roster = append(h.Roster, signalbox.RosterEntry{
			Identity: id, PublicKey: e.GetPublicKey(), Name: e.GetName(),
			DataCenter: signalbox.DataCenter(e.GetDataCenter()), Admission: e.GetAdmission(), Leased: e.GetLeased(),
		})
	}
	return nil
}
