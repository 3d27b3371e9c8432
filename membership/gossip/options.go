package gossip

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Options says how a Pool is built. Zero values that have a default take it.
//
// The callbacks are each called from a goroutine of their own, one call at a
// time. One that blocks delays only its own kind, never memberlist; what
// arrives meanwhile beyond the bounds is dropped, counted, and offered again by
// push-pull. A callback must not call Close. The bytes it is given are shared:
// they must not be changed.
type Options struct {
	// Pool names the pool in logs and metrics, for example "east" or
	// "gateways". Required.
	Pool string
	// Label separates clusters and pools whose keys are the same by mistake. It
	// is authenticated with every message. Required, the same on all members.
	Label string
	// Keys are the encryption keys, KeySize bytes each. The first one encrypts,
	// all decrypt. Required: without a key New returns ErrNoKey.
	Keys [][]byte

	// Name is this member's name, unique in the pool. Required.
	Name string
	// Meta is what this member says about itself. Required.
	Meta Meta
	// BindHost (an IP address, default 127.0.0.1) and BindPort (0: any) are
	// where packets and streams are received.
	BindHost string
	BindPort int
	// AdvertiseHost (an IP address) and AdvertisePort are where others reach
	// this member, when that is not where it listens.
	AdvertiseHost string
	AdvertisePort int
	// Transport replaces the network, for tests. It belongs to the Pool then.
	Transport memberlist.Transport
	// Seeds are host:port addresses of members to join, and to join again
	// whenever they are not among the members. The Pool does so in the
	// background until Close.
	Seeds []string

	// ValidateStatement verifies a statement's signature and returns its
	// idempotency key. An error drops the statement and is not remembered: what
	// cannot be judged yet is offered again by a later push-pull. It should
	// refuse what is settled with ErrStale, or a copied old statement could
	// push out a current one. Required; called concurrently.
	ValidateStatement func(raw []byte) (key string, err error)
	// OnStatement gets every statement that came from another member, once per
	// key. Required.
	OnStatement func(raw []byte)
	// ValidateDocument verifies a document; the rest is as for statements.
	// Without it the Pool carries no documents.
	ValidateDocument func(raw []byte) error
	// OnDocument gets every document that came from another member, once.
	OnDocument func(hash Hash, raw []byte)
	// OnEvent gets changes of presence. Optional.
	OnEvent func(Event)

	// Fanout is how many random members a statement or announcement is passed
	// on to at once, by its author and at first receipt (default 4; -1: none,
	// which leaves it to the gossip tick).
	Fanout int
	// DirectStreams also sends own statements to every known gateway over a
	// stream, which costs a connection each. Leave it off where the caller has
	// connections to the gateways of its own.
	DirectStreams bool
	// MaxStatements (default 4096) and MaxDocuments (default 256) bound what is
	// kept; beyond, the oldest goes first. DocumentBytes (default 8 MiB) bounds
	// the documents' bytes together.
	MaxStatements int
	MaxDocuments  int
	DocumentBytes int

	PushPullInterval time.Duration // default 5 s
	GossipInterval   time.Duration // default 100 ms
	ProbeInterval    time.Duration // default 1 s
	ProbeTimeout     time.Duration // default 500 ms; above the round trip
	StreamTimeout    time.Duration // default 3 s: dial, read and write
	FetchTimeout     time.Duration // default 1 s: then the next holder is asked
	RejoinMin        time.Duration // default 200 ms
	RejoinMax        time.Duration // default 15 s

	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil: metrics are not exported
}

var (
	// ErrNoKey is returned when a Pool is made without an encryption key.
	ErrNoKey = errors.New("gossip: no encryption key; make one with signalbox keys")
	// ErrKeySize is returned when an encryption key is not KeySize bytes long.
	ErrKeySize = fmt.Errorf("gossip: an encryption key has %d bytes", KeySize)
	// ErrClosed is returned by a Pool after Close.
	ErrClosed = errors.New("gossip: pool is closed")
	// ErrTooLarge is returned when a statement or document exceeds its maximum.
	ErrTooLarge = errors.New("gossip: too large")
	// ErrNoDocuments is returned by Publish on a Pool that carries none.
	ErrNoDocuments = errors.New("gossip: pool carries no documents")
	// ErrStale is what the Validate functions return, or wrap, for what is valid
	// but settled. It is counted apart and not logged.
	ErrStale = errors.New("gossip: settled already")
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	count := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	set(&o.PushPullInterval, 5*time.Second)
	set(&o.GossipInterval, 100*time.Millisecond)
	set(&o.ProbeInterval, time.Second)
	set(&o.ProbeTimeout, 500*time.Millisecond)
	set(&o.StreamTimeout, 3*time.Second)
	set(&o.FetchTimeout, time.Second)
	set(&o.RejoinMin, 200*time.Millisecond)
	set(&o.RejoinMax, 15*time.Second)
	count(&o.Fanout, 4)
	count(&o.MaxStatements, 4096)
	count(&o.MaxDocuments, 256)
	count(&o.DocumentBytes, 8<<20)
	if o.BindHost == "" {
		o.BindHost = "127.0.0.1"
	}
	return o
}

func (o Options) check() error {
	if err := checkKeys(o.Keys); err != nil {
		return err
	}
	if err := checkName(o.Name); err != nil {
		return fmt.Errorf("check gossip options: %w", err)
	}
	if err := o.Meta.check(); err != nil {
		return fmt.Errorf("check gossip options: %w", err)
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("check gossip options: "+format, args...)
	}
	switch {
	case o.Pool == "":
		return fail("Pool is empty")
	case o.Label == "" || len(o.Label) > MaxLabel:
		return fail("Label has %d bytes, want 1 to %d", len(o.Label), MaxLabel)
	case o.ValidateStatement == nil || o.OnStatement == nil:
		return fail("ValidateStatement and OnStatement are required")
	case (o.ValidateDocument == nil) != (o.OnDocument == nil):
		return fail("ValidateDocument and OnDocument go together")
	case o.MaxStatements < 1 || o.MaxStatements > MaxStatements:
		return fail("MaxStatements is %d, want 1 to %d", o.MaxStatements, MaxStatements)
	case o.MaxDocuments < 1 || o.MaxDocuments > MaxDocuments:
		return fail("MaxDocuments is %d, want 1 to %d", o.MaxDocuments, MaxDocuments)
	case o.DocumentBytes < MaxDocument || o.DocumentBytes > MaxDocumentBytes:
		return fail("DocumentBytes is %d, want %d to %d", o.DocumentBytes, MaxDocument, MaxDocumentBytes)
	case o.Fanout > MaxFanout:
		return fail("Fanout is %d, want at most %d", o.Fanout, MaxFanout)
	}
	for _, d := range []time.Duration{
		o.PushPullInterval, o.GossipInterval, o.ProbeInterval, o.ProbeTimeout,
		o.StreamTimeout, o.FetchTimeout, o.RejoinMin, o.RejoinMax,
	} {
		if d < 0 {
			return fail("a duration is negative")
		}
	}
	return nil
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return ErrNoKey
	}
	if len(keys) > MaxKeys {
		return fmt.Errorf("check gossip keys: %d keys, at most %d", len(keys), MaxKeys)
	}
	for _, key := range keys {
		if len(key) != KeySize {
			return ErrKeySize
		}
	}
	return nil
}
