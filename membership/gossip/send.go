package gossip

import (
	"errors"

	"github.com/hashicorp/memberlist"
)

// relay is a message to pass on to random members.
type relay []byte

// streamSend is a message for one member over a stream. done, where set, learns
// whether it was sent.
type streamSend struct {
	node memberlist.Node
	msg  []byte
	done func(error)
}

var errQueueFull = errors.New("too much to send")

// direct sends an own message by packet to the known gateways and some random
// members, in the caller's goroutine: a packet does not wait.
func (p *Pool) direct(msg []byte, streams bool) {
	gateways := p.presence.gateways()
	for i := range gateways {
		p.packet(&gateways[i], msg)
		if streams {
			p.stream(streamSend{node: gateways[i], msg: msg})
		}
	}
	others := p.presence.sample(p.opts.Fanout, gateways)
	for i := range others {
		p.packet(&others[i], msg)
	}
}

func (p *Pool) relay(msg []byte) {
	if p.opts.Fanout <= 0 {
		return
	}
	select {
	case p.relays <- msg:
	default:
		p.drop(dropQueue, nil, "relay")
	}
}

func (p *Pool) sendRelays() {
	for {
		select {
		case msg := <-p.relays:
			nodes := p.presence.sample(p.opts.Fanout, nil)
			for i := range nodes {
				p.packet(&nodes[i], msg)
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Pool) packet(node *memberlist.Node, msg []byte) {
	if err := p.library.SendBestEffort(node, msg); err != nil && p.ctx.Err() == nil {
		p.drop(dropSend, err, "packet")
	}
}

// stream queues a message for a stream worker.
func (p *Pool) stream(s streamSend) {
	select {
	case p.streams <- s:
	default:
		p.drop(dropQueue, nil, "stream message")
		if s.done != nil {
			s.done(errQueueFull)
		}
	}
}

func (p *Pool) sendStreams() {
	for {
		select {
		case s := <-p.streams:
			err := p.library.SendReliable(&s.node, s.msg)
			if err != nil && p.ctx.Err() == nil {
				p.drop(dropSend, err, "stream message")
			}
			if s.done != nil {
				s.done(err)
			}
		case <-p.ctx.Done():
			return
		}
	}
}
