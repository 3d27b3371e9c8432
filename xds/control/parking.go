package control

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// parking accepts connections and never answers. A proxyless client that
// connects to it stays in CONNECTING, its calls waiting, until EDS names
// somebody else. When full it stops accepting: further connections wait in
// the kernel's backlog, which is the same to their clients.
type parking struct {
	listener net.Listener
	slots    chan struct{}
	gauge    prometheus.Gauge
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{} // nil once closed
	done     chan struct{}
}

// acceptPause keeps a listener that fails (out of files) from spinning.
const acceptPause = 10 * time.Millisecond

func newParking(l net.Listener, limit int, gauge prometheus.Gauge) *parking {
	p := &parking{listener: l, slots: make(chan struct{}, limit), gauge: gauge, conns: map[net.Conn]struct{}{}, done: make(chan struct{})}
	p.wg.Add(1)
	go p.accept()
	return p
}

func (p *parking) accept() {
	defer p.wg.Done()
	for {
		p.slots <- struct{}{}
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an aborted connection, or out of files
			<-p.slots
			select {
			case <-p.done:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		if !p.add(conn) {
			_ = conn.Close()
			return
		}
		p.wg.Add(1)
		go p.hold(conn)
	}
}

func (p *parking) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

// hold discards what the client says until it, or close, ends the connection.
func (p *parking) hold(conn net.Conn) {
	defer p.wg.Done()
	p.gauge.Inc()
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	p.gauge.Dec()
	<-p.slots
}

func (p *parking) close() {
	close(p.done)
	_ = p.listener.Close()
	p.mu.Lock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}
