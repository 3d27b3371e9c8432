package agent

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// prepareTimeout bounds one preparation.
const prepareTimeout = 60 * time.Second

// help is what the core asks of a driver beside stepping down and promoting:
// one thing at a time, and never while an order is carried out. An order ends it.
type help struct {
	op   uint64
	busy bool

	preparing *wire.Prepare // asked for and not done
	prepared  uint64        // id of the newest that is done

	peers    map[signalbox.Identity]driver.Peer         // who was said to be promoted
	masters  map[signalbox.Identity]signalbox.Statement // who serves the certified term
	followed driver.Follow                              // the last that was carried out
	asked    driver.Follow                              // the one that is being carried out
	failures int
	retryAt  time.Time
}

// onPreparing takes the announcement of a handover. It is no order: who sends it
// can have a driver do nothing but prepare.
func (c *core) onPreparing(p *wire.Prepare) {
	if p.GetId() == c.help.prepared {
		return
	}
	if c.cfg.prepares {
		c.help.preparing = p
	}
	c.help.peers = map[signalbox.Identity]driver.Peer{}
	for _, in := range p.GetIncoming()[:min(len(p.GetIncoming()), signalbox.MaxRoster)] {
		id, err := rpc.IdentityFromBytes(in.GetIdentity())
		if err == nil && signalbox.CheckName("instance", in.GetName()) == nil && plainAddress(in.GetAddress()) {
			c.help.peers[id] = driver.Peer{Name: in.GetName(), Address: in.GetAddress()}
		}
	}
}

// plainAddress reports whether an address can be passed on in a line of text: no
// space, nothing that does not print. Whether anybody is there is another question.
func plainAddress(a string) bool {
	return len(a) <= signalbox.MaxAddress && !strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' })
}

// incoming are those who are to be promoted by the newest open block; nil when
// nobody said where one of them is.
func (c *core) incoming() (out []driver.Peer) {
	if len(c.open) == 0 {
		return nil
	}
	for _, id := range c.open[len(c.open)-1].handover.Incoming {
		peer, known := c.help.peers[id]
		if !known {
			return nil
		}
		out = append(out, peer)
	}
	return out
}

// role says what is coming for this instance, false when nothing is.
func (c *core) role(p *wire.Prepare) (driver.Preparation, bool) {
	own := rpc.IdentityToBytes(c.cfg.instance.Identity)
	is := func(id []byte) bool { return bytes.Equal(id, own) }
	o := driver.Preparation{Service: c.cfg.instance.Service, Term: signalbox.Term(p.GetTerm()), Promote: slices.ContainsFunc(p.GetPromote(), is)}
	return o, o.Promote || slices.ContainsFunc(p.GetStepDown(), is)
}

// onServing takes another instance's word that it serves the certified term.
func (c *core) onServing(s *wire.Serving) {
	if !c.cfg.follows || c.cert == nil {
		return
	}
	key := ed25519.PublicKey(s.GetPublicKey())
	e, err := rpc.OpenStatement(c.cfg.trust.Cluster, s.GetStatement(), func(signalbox.Identity) ed25519.PublicKey { return key })
	switch {
	case err != nil:
		c.emit(note{warn: true, refused: true, what: "serving statement that does not verify", detail: err.Error()})
		return
	case e.Kind != signalbox.SaysServing || e.Service != c.cfg.instance.Service || e.Term != c.term() || e.Block != c.cert.Block.Digest:
		return // of another term: not news
	case e.Identity == c.cfg.instance.Identity:
		return
	case !c.cert.Handover().Lists(e.Identity, e.Term) && !c.admits(s.GetAdmission(), e.Statement):
		c.emit(note{warn: true, refused: true, what: "serving statement of who may not serve", detail: string(e.Identity)})
		return
	}
	if before, ok := c.help.masters[e.Identity]; ok && before.Incarnation > e.Incarnation {
		return
	}
	if c.help.masters == nil {
		c.help.masters = map[signalbox.Identity]signalbox.Statement{}
	}
	if len(c.help.masters) < signalbox.MaxRoster {
		c.help.masters[e.Identity] = e.Statement
	}
}

// admits reports whether a block admitted the signer to the term that it serves.
func (c *core) admits(raw []byte, s signalbox.Statement) bool {
	if len(raw) == 0 {
		return false
	}
	block, err := rpc.OpenBlock(c.cfg.trust, raw)
	if err != nil {
		return false
	}
	a := block.Admission(s.Service)
	return a != nil && a.Identity == s.Identity && a.Term == s.Term && block.Index == s.Admission
}

// whom names the master to follow, zero for nobody: only while the instance is
// closed, has nothing to answer, may not serve itself, and holds a certificate
// that is not below what it acked.
func (c *core) whom() driver.Follow {
	g := &c.gate
	closed := g.known && !g.open && !g.busy && c.target() == 0
	if !c.cfg.follows || !closed || len(c.open) > 0 || c.stop.phase != stopNone || c.cert == nil || c.term() < c.Floor || c.mayServe() != 0 {
		return driver.Follow{}
	}
	var master signalbox.Statement
	for id, s := range c.help.masters { // of several, the one that was admitted last
		if master.Identity == "" || s.Admission > master.Admission || s.Admission == master.Admission && id < master.Identity {
			master = s
		}
	}
	if master.Identity == "" {
		return driver.Follow{}
	}
	return driver.Follow{Service: master.Service, Term: master.Term, Master: master.Identity, Address: master.Address}
}

// proceedHelp asks the driver for what is due.
func (c *core) proceedHelp(now time.Time) {
	h := &c.help
	if c.gate.busy {
		h.busy, h.preparing = false, nil // an order took its place
		return
	}
	if h.busy {
		return
	}
	if p := h.preparing; p != nil && c.gate.known && len(c.open) == 0 {
		order, concerned := c.role(p)
		if concerned {
			h.op++
			h.busy, h.asked = true, driver.Follow{}
			c.emit(prepare{op: h.op, order: order})
			return
		}
		h.preparing = nil
	}
	next := c.whom()
	if next == (driver.Follow{}) || next == h.followed || next == h.asked && now.Before(h.retryAt) {
		return
	}
	if next != h.asked {
		h.failures = 0
	}
	h.op++
	h.busy, h.asked = true, next
	c.gate.position = nil // it is a standby from now on
	c.emit(follow{op: h.op, order: next})
}

// onHelped takes the end of what the driver was asked for.
func (c *core) onHelped(ev helped, now time.Time) {
	h := &c.help
	if ev.op != h.op || !h.busy {
		return // an order took its place
	}
	h.busy = false
	if h.asked == (driver.Follow{}) { // a preparation: best effort
		if ev.err != nil {
			c.emit(note{warn: true, what: "the driver could not prepare", detail: ev.err.Error()})
		}
		h.prepared, h.preparing = h.preparing.GetId(), nil
		return
	}
	if ev.err != nil {
		h.retryAt = now.Add(min(driveBackoff<<min(h.failures, 10), maxDriveBackoff))
		h.failures++
		c.problem = "driver: follow: " + ev.err.Error()
		c.emit(note{warn: true, what: "the driver could not follow", term: h.asked.Term, detail: ev.err.Error()})
		return
	}
	h.followed, h.failures, c.problem = h.asked, 0, ""
	c.emit(note{what: "follows " + h.followed.Address, term: h.followed.Term})
}

// followAnew has the driver told again whom to follow.
func (c *core) followAnew() { c.help.followed = driver.Follow{} }

// nextHelp is when a failed follow is tried again; zero for never.
func (c *core) nextHelp() time.Time {
	if c.help.failures == 0 || c.help.busy {
		return time.Time{}
	}
	return c.help.retryAt
}
