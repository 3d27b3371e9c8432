// Package gossiptest is a network in memory for tests of gossip pools. It
// works inside testing/synctest bubbles, where memberlist's MockTransport
// deadlocks: its packets block the sender until they are read.
//
// Packets that find no room are lost, as with UDP. On a cut link packets are
// lost, dials time out and streams go silent, as with a firewall that drops.
// Nothing is delivered out of order within a stream.
package gossiptest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Kind is what travels over a link.
type Kind uint8

// The kinds.
const (
	Packet Kind = 1 + iota
	Stream
)

// Link is one direction between two addresses.
type Link struct {
	From, To netip.AddrPort
	Kind     Kind
}

const (
	port       = 7946
	packetRoom = 4096
	streamRoom = 256
	maxPacket  = 64 << 10
)

// Network connects Transports. Its zero value is not ready: use New.
type Network struct {
	mu      sync.Mutex
	hosts   map[netip.AddrPort]*Transport
	next    int
	cut     func(Link) bool
	latency func(Link) time.Duration
	sent    map[Kind]int
}

// New makes a network without latency or cuts.
func New() *Network {
	return &Network{hosts: make(map[netip.AddrPort]*Transport), sent: make(map[Kind]int)}
}

// Cut sets the rule that loses what travels over a link; nil loses nothing. It
// is asked for every packet and every piece of a stream, so it may be random,
// and it is called by several goroutines.
func (n *Network) Cut(rule func(Link) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = rule
}

// Latency sets the one-way delay of a link; nil is none. A dial takes two, and
// every write to a stream one.
func (n *Network) Latency(delay func(Link) time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency = delay
}

// Sent returns how many packets or dialled streams were tried so far.
func (n *Network) Sent(k Kind) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[k]
}

// Host makes a Transport with an address of its own.
func (n *Network) Host() *Transport {
	n.mu.Lock()
	n.next++
	ip := netip.AddrFrom4([4]byte{10, 0, byte(n.next >> 8), byte(n.next)})
	n.mu.Unlock()
	return n.HostAt(netip.AddrPortFrom(ip, port))
}

// HostAt makes a Transport at an address, whose former Transport, if any, must
// have been shut down.
func (n *Network) HostAt(address netip.AddrPort) *Transport {
	t := &Transport{
		network: n, address: address,
		packets: make(chan *memberlist.Packet, packetRoom),
		streams: make(chan net.Conn, streamRoom),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = t
	return t
}

// judge says what happens to a piece on a link.
func (n *Network) judge(l Link) (to *Transport, delay time.Duration, cut bool) {
	n.mu.Lock()
	to, rule, latency := n.hosts[l.To], n.cut, n.latency
	n.mu.Unlock()
	if latency != nil {
		delay = latency(l)
	}
	return to, delay, rule != nil && rule(l)
}

func (n *Network) count(k Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent[k]++
}

// Transport is one host's end of the network.
type Transport struct {
	network *Network
	address netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn

	mu     sync.Mutex
	closed bool
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Address returns the host's address.
func (t *Transport) Address() netip.AddrPort { return t.address }

// FinalAdvertiseAddr is memberlist.Transport's.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.address.Addr().AsSlice(), int(t.address.Port()), nil
}

// WriteTo is memberlist.Transport's.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress is memberlist.NodeAwareTransport's.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	dest, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	if len(b) > maxPacket {
		return time.Time{}, errors.New("send packet: too long")
	}
	t.network.count(Packet)
	now := time.Now()
	to, delay, cut := t.network.judge(Link{t.address, dest, Packet})
	if to == nil || cut {
		return now, nil
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(t.address)}
	if delay == 0 {
		to.deliver(p)
	} else {
		time.AfterFunc(delay, func() { to.deliver(p) })
	}
	return now, nil
}

func (t *Transport) deliver(p *memberlist.Packet) {
	p.Timestamp = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	select {
	case t.packets <- p:
	default:
	}
}

// PacketCh is memberlist.Transport's.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist.Transport's.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout is memberlist.Transport's.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout is memberlist.NodeAwareTransport's.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dest, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	t.network.count(Stream)
	there, back := Link{t.address, dest, Stream}, Link{dest, t.address, Stream}
	to, delay, cut := t.network.judge(there)
	_, delayBack, cutBack := t.network.judge(back)
	if cut || cutBack || delay+delayBack >= timeout {
		time.Sleep(timeout)
		return nil, fmt.Errorf("dial %s: %w", dest, os.ErrDeadlineExceeded)
	}
	if delay+delayBack > 0 {
		time.Sleep(delay + delayBack)
	}
	near, far := net.Pipe()
	if to == nil || !to.accept(&conn{Conn: far, network: t.network, link: back}) {
		return nil, fmt.Errorf("dial %s: connection refused", dest)
	}
	return &conn{Conn: near, network: t.network, link: there}, nil
}

func (t *Transport) accept(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	select {
	case t.streams <- c:
		return true
	default:
		return false
	}
}

// Shutdown is memberlist.Transport's.
func (t *Transport) Shutdown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	for {
		select {
		case c := <-t.streams:
			_ = c.Close()
		default:
			t.network.gone(t)
			return nil
		}
	}
}

func (n *Network) gone(t *Transport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[t.address] == t {
		delete(n.hosts, t.address)
	}
}

// conn is one end of a stream.
type conn struct {
	net.Conn
	network *Network
	link    Link

	mu   sync.Mutex
	lost bool // a piece was lost: nothing after it can arrive
}

// Write is net.Conn's.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, delay, cut := c.network.judge(c.link)
	c.lost = c.lost || cut
	if c.lost {
		return len(b), nil
	}
	if delay > 0 {
		time.Sleep(delay)
	}
	return c.Conn.Write(b)
}

// LocalAddr is net.Conn's.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.link.From) }

// RemoteAddr is net.Conn's.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.link.To) }
