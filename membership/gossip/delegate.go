package gossip

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. None of it blocks.
type delegate struct{ p *Pool }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta returns this member's metadata; its bounds keep it below the limit.
func (d delegate) NodeMeta(int) []byte { return *d.p.meta.Load() }

// NotifyMsg takes a message from a packet or a stream; memberlist may reuse the
// buffer afterwards.
func (d delegate) NotifyMsg(b []byte) {
	p := d.p
	m, err := decodeMessage(b)
	if err != nil {
		p.dropUndecodable(err, "message")
		return
	}
	switch m.kind {
	case kindStatement:
		p.receive(m.raw, m.path)
	case kindDocument:
		select {
		case p.bodies <- bytes.Clone(m.raw):
		default:
			p.drop(dropQueue, nil, "document")
		}
	case kindAnnounce:
		p.learn(m.sender, m.hashes)
	case kindRequest:
		p.answer(m.sender, m.hashes)
	}
}

// GetBroadcasts returns what the next gossip packet takes along.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.p.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns what push-pull sends.
func (d delegate) LocalState(bool) []byte {
	p := d.p
	return state{p.opts.Name, p.statements.shelf.all(), p.documents.keys()}.encode()
}

// MergeRemoteState takes what push-pull brought.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	p := d.p
	s, err := decodeState(b)
	if err != nil {
		p.dropUndecodable(err, "push-pull state")
		return
	}
	for _, raw := range s.statements {
		p.receive(raw, pathSync)
	}
	p.learn(s.sender, s.hashes)
}

func (p *Pool) dropUndecodable(err error, what string) {
	why := dropMalformed
	if errors.Is(err, errSize) {
		why = dropOversized
	}
	p.drop(why, err, what)
}

// NotifyAlive refuses members that could do harm: memberlist would keep
// whatever it is told.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	p := d.p
	err := checkName(n.Name)
	if err == nil {
		_, err = decodeMeta(n.Meta)
	}
	if err != nil {
		p.count(dropMeta)
		return fmt.Errorf("refuse member: %w", err)
	}
	if (len(n.Addr) != 4 && len(n.Addr) != 16) || n.Port == 0 {
		p.count(dropAddress)
		return errAddress
	}
	if !p.presence.room(n.Name) {
		p.count(dropMembers)
		return fmt.Errorf("more than %d members", MaxMembers)
	}
	return nil
}

// NotifyConflict is told of two members with one name.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.p.count(dropConflict)
	d.p.bounded.Warn().Str("member", existing.Name).Str("address", existing.Address()).
		Str("other", other.Address()).Msg("two members claim one name")
}

// NotifyJoin is told of a new member.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.p.present(n, EventJoin) }

// NotifyUpdate is told of new metadata.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.p.present(n, EventUpdate) }

// NotifyLeave is told of a member that left or is not heard any more.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	if m, ok := d.p.presence.remove(n.Name); ok {
		d.p.event(Event{EventLeave, m})
	}
}

func (p *Pool) present(n *memberlist.Node, kind EventKind) {
	m, err := peerOf(n)
	if err != nil { // NotifyAlive has let it pass: not reached
		p.drop(dropMeta, err, "member")
		return
	}
	p.presence.put(m)
	p.event(Event{kind, m.Member})
}

func (p *Pool) event(e Event) {
	if p.opts.OnEvent != nil && !p.events.put(e) {
		p.drop(dropQueue, nil, "event")
	}
}

func (p *Pool) tellEvents() {
	for {
		select {
		case <-p.events.wake:
		case <-p.ctx.Done():
			return
		}
		for p.ctx.Err() == nil {
			e, ok := p.events.take()
			if !ok {
				break
			}
			p.opts.OnEvent(e)
		}
	}
}
