package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// guard stands between the network and memberlist. It refuses what memberlist
// would choke on before any key is tried:
//
//   - datagrams and streams beyond their maximum, another label, plaintext;
//   - memberlist's old padded encryption and empty sealed messages: a holder of
//     a key could end the process with either, as the library reads past them
//     (pkcs7decode and readStream in 0.7.0);
//   - more streams than MaxInboundStreams.
//
// It also owns every connection, so that Close ends them all at once.
type guard struct {
	inner   memberlist.NodeAwareTransport
	label   string
	timeout time.Duration
	drop    func(reason)

	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends dials
	cancel  context.CancelFunc
	done    chan struct{} // ends the forwarders
	wg      sync.WaitGroup

	mu      sync.Mutex
	conns   map[*guardedConn]struct{}
	inbound int
	closed  bool

	shutdown sync.Once
	result   error
}

var errAddress = errors.New("address is not an IP address and port")

func newGuard(inner memberlist.Transport, label string, timeout time.Duration, drop func(reason)) *guard {
	aware, ok := inner.(memberlist.NodeAwareTransport)
	if !ok {
		aware = plainTransport{inner}
	}
	g := &guard{
		inner: aware, label: label, timeout: timeout, drop: drop,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		done: make(chan struct{}), conns: make(map[*guardedConn]struct{}),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.wg.Go(g.forwardPackets)
	g.wg.Go(g.forwardStreams)
	return g
}

// plainTransport gives a simple transport the methods that take names.
type plainTransport struct{ memberlist.Transport }

func (t plainTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t plainTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (g *guard) forwardPackets() {
	for {
		select {
		case p := <-g.inner.PacketCh():
			if why := g.judgePacket(p.Buf); why != "" {
				g.drop(why)
				continue
			}
			select {
			case g.packets <- p:
			case <-g.done:
				return
			}
		case <-g.done:
			return
		}
	}
}

func (g *guard) judgePacket(b []byte) reason {
	if len(b) > MaxPacket {
		return dropOversized
	}
	sealed, label, err := memberlist.RemoveLabelHeaderFromPacket(b)
	switch {
	case err != nil:
		return dropFrame
	case label != g.label:
		return dropLabel
	case len(sealed) <= sealOverhead || sealed[0] != encryptionVersion:
		return dropFrame
	}
	return ""
}

func (g *guard) forwardStreams() {
	for {
		select {
		case conn := <-g.inner.StreamCh():
			c, err := g.track(conn, true)
			if err != nil {
				g.drop(dropStreams)
				_ = conn.Close()
				continue
			}
			select {
			case g.streams <- c:
			case <-g.done:
				_ = c.Close()
				return
			}
		case <-g.done:
			return
		}
	}
}

func (g *guard) track(conn net.Conn, inbound bool) (*guardedConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	if inbound {
		if g.inbound >= MaxInboundStreams {
			return nil, fmt.Errorf("more than %d streams", MaxInboundStreams)
		}
		g.inbound++
	}
	c := &guardedConn{Conn: conn, guard: g, inbound: inbound}
	g.conns[c] = struct{}{}
	return c, nil
}

func (g *guard) untrack(c *guardedConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.conns[c]; !ok {
		return
	}
	delete(g.conns, c)
	if c.inbound {
		g.inbound--
	}
}

// FinalAdvertiseAddr is memberlist.Transport's.
func (g *guard) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return g.inner.FinalAdvertiseAddr(ip, port)
}

// PacketCh is memberlist.Transport's.
func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh is memberlist.Transport's.
func (g *guard) StreamCh() <-chan net.Conn { return g.streams }

// WriteTo is memberlist.Transport's.
func (g *guard) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is memberlist.Transport's.
func (g *guard) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// WriteToAddress is memberlist.NodeAwareTransport's. Addresses come from
// others' messages: one that is no IP address would be looked up by name.
func (g *guard) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if _, err := netip.ParseAddrPort(a.Addr); err != nil {
		g.drop(dropAddress)
		return time.Time{}, errAddress
	}
	return g.inner.WriteToAddress(b, a)
}

// DialAddressTimeout is memberlist.NodeAwareTransport's. memberlist sends a
// user message without a deadline, so the connection gets one here.
func (g *guard) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(a.Addr); err != nil {
		g.drop(dropAddress)
		return nil, errAddress
	}
	timeout = min(timeout, g.timeout)
	conn, err := g.dial(a, timeout)
	if err != nil {
		return nil, err
	}
	c, err := g.track(conn, false)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (g *guard) dial(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if _, ok := g.inner.(*memberlist.NetTransport); !ok {
		return g.inner.DialAddressTimeout(a, timeout)
	}
	// memberlist's own dial cannot be interrupted by Close.
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(g.ctx, "tcp", a.Addr)
}

// Shutdown closes the network and every connection.
func (g *guard) Shutdown() error {
	g.shutdown.Do(func() { g.result = g.end() })
	return g.result
}

func (g *guard) end() error {
	g.mu.Lock()
	g.closed = true
	open := make([]*guardedConn, 0, len(g.conns))
	for c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	g.cancel()
	for _, c := range open {
		_ = c.Close()
	}
	// The forwarders must still read while the listeners below end.
	err := g.inner.Shutdown()
	close(g.done)
	g.wg.Wait()
	return err
}
