package coordinator

import (
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// notice has gossip carry a block or a certificate, for agents and gateways that
// the direct ways do not reach.
func (c *Coordinator) notice(n rpc.Notice) {
	select {
	case c.rumours <- delayed{notice: n, due: time.Now().Add(gossipAfter)}:
	default: // the direct ways carry it
	}
}

// Notice takes what gossip brought. Blocks come by the log; those in gossip are
// for agents.
func (c *Coordinator) Notice(n rpc.Notice) {
	if n.Certificate != nil {
		c.Certificate(n.Certificate.Raw)
	}
}

// passOn has gossip carry what a peer said of an instance elsewhere that has
// drained: where more than one data center gives evidence, an agent here that no
// gateway reaches waits for it.
func (c *Coordinator) passOn(e signalbox.Evidence) {
	if !c.several || e.Kind == signalbox.SaysServing {
		return
	}
	select {
	case c.rumours <- delayed{raw: e.Envelope, due: time.Now().Add(gossipAfter)}:
	default: // the direct ways carry it
	}
}

// severalOthers reports whether the gateways know of more than one data center
// beside the own.
func severalOthers(opt *Options) bool {
	others := map[signalbox.DataCenter]bool{}
	for _, dc := range opt.Peers {
		others[dc] = dc != opt.DataCenter
	}
	n := 0
	for _, other := range others {
		if other {
			n++
		}
	}
	return n > 1
}
