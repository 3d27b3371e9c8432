// Package session is how a gateway talks to its agents and to other gateways:
// long-lived gRPC streams over mutual TLS, with bounded queues.
//
// Guarantees: whoever is on the other side of a session proved by certificate
// who it is; an agent speaks only for instances that it enrolled; frames of one
// session arrive in order; a queue that is full ends its session, so that the
// other side starts over with everything it needs.
//
// It decides nothing: what came in goes to the Handler, and a session's end is
// told as "cannot be reached", which is evidence of nothing.
package session

import (
	"context"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// Maxima of what is kept for others.
const (
	// MaxQueue is the number of frames waiting for one session.
	MaxQueue = 1024
	// MaxAgents is the number of agents' sessions of one gateway.
	MaxAgents = 4096
	// MaxInstances is the number of instances that one agent may speak for.
	MaxInstances = 256
	// MaxQuestions is the number of questions of one session under way at once;
	// after a start, each of its instances asks.
	MaxQuestions = 64
)

// ErrRolledBack is what a Handler's AgentHello wraps when the instance's state is
// older than what was seen of it: it needs a new key (interlock rule 8).
var ErrRolledBack = fmt.Errorf("%w: state was rolled back", signalbox.ErrRefused)

// Handler takes what comes in. Methods are called from the sessions' own
// goroutines, in the order of each session; they may block, which holds up that
// session only.
type Handler interface {
	// AgentHello introduces a verified instance. An error is told to the agent,
	// and the instance is not taken into the session.
	AgentHello(in signalbox.Instance, hello *wire.Hello) error
	// AgentGone is called when an instance's session ended. Nothing of that
	// session comes after it.
	AgentGone(id signalbox.Identity)
	// AgentFrame is a status, statement or want of an instance of the session.
	AgentFrame(id signalbox.Identity, frame *wire.AgentFrame)
	// PeerUp and PeerDown follow this gateway's stream to a peer. PeerUp returns
	// what the peer has to know first.
	PeerUp(gateway string) []*wire.PeerFrame
	PeerDown(gateway string)
	// PeerFrame is what a peer sent.
	PeerFrame(gateway string, frame *wire.PeerFrame)
}

// Log is what the gateways' service needs of the agreed log.
type Log interface {
	// Propose decides a request here; ErrNotConfigured when this gateway is no
	// voter.
	Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error)
	// Answer signs a voter's answer to an instance's question.
	Answer(s signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error)
	// Append takes a decided block in; Blocks reads them; Changed tells of new
	// ones; First is the oldest that is kept, Index the newest.
	Append(raw []byte) error
	Blocks(from uint64, most int) ([][]byte, error)
	First() uint64
	// Snapshot returns what stands for the older blocks, and up to which index;
	// Install takes another gateway's, where this log is older.
	Snapshot() (raw []byte, index uint64, err error)
	Install(raw []byte) error
	Changed() <-chan struct{}
	Index() uint64
}
