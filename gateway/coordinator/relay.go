package coordinator

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// What is signed comes here many times: from the agent, from each peer that it
// told as well, and by gossip. Only the first copy is verified, and what is
// passed on for the case that a direct way is cut waits until the direct ways
// are through: on a small machine it would compete with them.
const (
	// maxVerified bounds how many signed bytes are remembered as verified.
	maxVerified = 4096
	// gossipAfter is how much later gossip is told than the peers.
	gossipAfter = 250 * time.Millisecond
	// unhurriedAfter is how much later those peers are told who do not wait for
	// it: an interruption is over by then.
	unhurriedAfter = 90 * time.Millisecond
	// viewAfter is for how long changes of instances are gathered before the
	// peers are told, while a handover of their service is open.
	viewAfter = 50 * time.Millisecond
)

// verified remembers what signed bytes said that were verified. Safe for
// concurrent use.
type verified[T any] struct {
	mu    sync.Mutex
	said  map[[sha256.Size]byte]T
	order [][sha256.Size]byte
}

func (v *verified[T]) get(raw []byte) (said T, ok bool) {
	print := sha256.Sum256(raw)
	v.mu.Lock()
	defer v.mu.Unlock()
	said, ok = v.said[print]
	return said, ok
}

func (v *verified[T]) put(raw []byte, said T) {
	print := sha256.Sum256(raw)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.said[print]; ok {
		return
	}
	if v.said == nil {
		v.said = map[[sha256.Size]byte]T{}
	}
	if len(v.order) >= maxVerified {
		delete(v.said, v.order[0])
		v.order = v.order[1:]
	}
	v.said[print] = said
	v.order = append(v.order, print)
}

// openStatement verifies a statement, the first time.
func (c *Coordinator) openStatement(raw []byte) (signalbox.Evidence, error) {
	if e, ok := c.statements.get(raw); ok {
		return e, nil
	}
	e, err := rpc.OpenEvidence(c.opt.Trust, raw, c.key)
	if err == nil {
		c.statements.put(raw, e)
	}
	return e, err
}

// delayed is what gossip is told of when its time has come: a statement, or a
// block or certificate.
type delayed struct {
	raw    []byte
	notice rpc.Notice
	due    time.Time
}

// relay passes a statement on: to the peers at once when they wait for it, else
// when there is time, and to gossip for the case that a direct way is cut.
func (c *Coordinator) relay(e signalbox.Evidence) {
	s := c.services[e.Service]
	if s == nil {
		return
	}
	frame := &wire.PeerFrame{Kind: &wire.PeerFrame_Statement{Statement: e.Envelope}}
	if s.machine.RelayNow(e) {
		c.opt.Links.Broadcast(frame)
	} else {
		c.tellLater(c.peers(), frame, func() bool {
			// With the certificate out, one gateway's word is enough for the
			// others' records.
			return e.Kind != signalbox.SaysLeave && e.Term <= certifiedTerm(s) && !s.machine.First()
		})
	}
	select {
	case c.rumours <- delayed{raw: e.Envelope, due: time.Now().Add(gossipAfter)}:
	default: // the direct ways carry it
	}
}

// tellHeld passes the own hold on: first to those who wait for it.
func (c *Coordinator) tellHeld(s *service, e handover.TellHeld) {
	frame := heldFrame(s.conf.Name, e.Held)
	c.opt.Links.Tell(e.Now, frame)
	var others []string
	for _, name := range c.peers() {
		if !slices.Contains(e.Now, name) {
			others = append(others, name)
		}
	}
	c.tellLater(others, frame, func() bool { return !s.machine.Runs(e.Held.Block) })
}

func (c *Coordinator) peers() []string { return slices.Sorted(maps.Keys(c.opt.Peers)) }

// unhurried is a frame that nobody waits for.
type unhurried struct {
	to    []string
	frame *wire.PeerFrame
	due   time.Time
	moot  func() bool // nobody needs it any more
}

// tellLater has peers told when there is time, with when it was learned.
func (c *Coordinator) tellLater(to []string, frame *wire.PeerFrame, moot func() bool) {
	now := c.opt.Now()
	later := &wire.PeerFrame{Kind: frame.Kind, SeenUnixNano: now.UnixNano()}
	c.unhurried = append(c.unhurried, unhurried{to: to, frame: later, due: now.Add(unhurriedAfter), moot: moot})
}

func (c *Coordinator) tellUnhurried() {
	now := c.opt.Now()
	for len(c.unhurried) > 0 && !now.Before(c.unhurried[0].due) {
		if u := c.unhurried[0]; !u.moot() {
			c.opt.Links.Tell(u.to, u.frame)
		}
		c.unhurried = c.unhurried[1:]
	}
}

// tellGossip hands statements to the gossip pools, each in its time.
func (c *Coordinator) tellGossip(ctx context.Context) {
	for {
		select {
		case r := <-c.rumours:
			if !sleep(ctx, time.Until(r.due)) {
				return
			}
			for _, g := range c.opt.Gossip {
				if r.raw == nil {
					g.Publish(r.notice)
				} else {
					g.Broadcast(r.raw)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ValidateStatement verifies a statement for the gossip pools and returns its
// key.
func (c *Coordinator) ValidateStatement(raw []byte) (string, error) {
	e, err := c.openStatement(raw)
	if err != nil {
		return "", err
	}
	return rpc.StatementKey(e.Statement), nil
}

// tellView passes an instance's status on: at once, or gathered with others
// while a handover of its service is open, when every frame delays it.
func (c *Coordinator) tellView(s *service, i *instance) {
	if _, open := s.machine.Open(); !open {
		c.tellViews([]*instance{i})
		return
	}
	if len(c.news) == 0 {
		c.newsAt = c.opt.Now()
	}
	c.news[i] = true
}

// tellNews passes on what was gathered for long enough.
func (c *Coordinator) tellNews() {
	if len(c.news) == 0 || c.opt.Now().Sub(c.newsAt) < viewAfter {
		return
	}
	var all []*instance
	for i := range c.news {
		all = append(all, i)
	}
	clear(c.news)
	c.tellViews(all)
}

func (c *Coordinator) tellViews(all []*instance) {
	view := &wire.SiteView{DataCenter: string(c.opt.DataCenter)}
	for _, i := range all {
		view.Instances = append(view.Instances, c.wireStatus(i))
	}
	c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_View{View: view}})
}
