package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// lineCommand has the test binary run as an instance of a TCP service, a process like any other.
const lineCommand = "line-instance"

// lineConfig is what such a process is told.
type lineConfig struct {
	Listen, Control, Service, Name, DataCenter, WriteLog string
}

// lineInstance answers lines over TCP while it is master, and has the HTTP driver contract, written from its
// documentation only. "id" is a write, "id hangs" one that takes until POST /go-on; the answer is "id instance term". Stepping
// down it serves what has begun, a connection that was accepted but not heard of included, and closes the others.
type lineInstance struct {
	lineConfig
	log *os.File

	mu     sync.Mutex
	master bool
	term   uint64
	last   time.Time // when a connection came, or the first line of one
	conns  map[*lineConn]bool
	slow   int // lines that hang
	goOn   chan struct{}
}

type lineConn struct {
	net.Conn
	fresh, busy bool
}

func runLine(text string) error {
	in := &lineInstance{conns: map[*lineConn]bool{}, goOn: make(chan struct{})}
	if err := json.Unmarshal([]byte(text), &in.lineConfig); err != nil {
		return err
	}
	var err error
	if in.log, err = os.OpenFile(in.WriteLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	callers, err := net.Listen("tcp", in.Listen)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", in.Control)
	if err != nil {
		return err
	}
	go func() { _ = (&http.Server{Handler: in.contract(), ReadHeaderTimeout: patience}).Serve(control) }()
	for {
		c, err := callers.Accept()
		if err != nil {
			return err
		}
		go in.serve(&lineConn{Conn: c, fresh: true})
	}
}

func (in *lineInstance) serve(c *lineConn) {
	defer c.Close()
	if !in.take(c) {
		return
	}
	defer in.drop(c)
	for lines := bufio.NewScanner(c); lines.Scan(); {
		id, slow, _ := strings.Cut(lines.Text(), " ")
		term, ok := in.begin(c)
		if !ok {
			return
		}
		w := oracle.Write{ID: id, Service: in.Service, Instance: in.Name, DataCenter: in.DataCenter, Term: term, Begin: load.Now()}
		in.dawdle(slow)
		w.End = load.Now()
		text, err := json.Marshal(w)
		if err == nil {
			_, err = in.log.Write(append(text, '\n'))
		}
		if err == nil {
			_, err = fmt.Fprintf(c, "%s %s %d\n", id, in.Name, term)
		}
		if !in.end(c) || err != nil {
			return
		}
	}
}

func (in *lineInstance) dawdle(text string) {
	if text != hangs {
		return
	}
	in.mu.Lock()
	goOn := in.goOn
	in.slow++
	in.mu.Unlock()
	<-goOn
	in.mu.Lock()
	defer in.mu.Unlock()
	in.slow--
}

// letGo ends all lines that hang.
func (in *lineInstance) letGo() {
	in.mu.Lock()
	defer in.mu.Unlock()
	close(in.goOn)
	in.goOn = make(chan struct{})
}

func (in *lineInstance) take(c *lineConn) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.master {
		in.conns[c], in.last = true, time.Now()
	}
	return in.master
}

func (in *lineInstance) drop(c *lineConn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.conns, c)
}

// begin admits a line; the first one of a connection that was taken always.
func (in *lineInstance) begin(c *lineConn) (term uint64, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if ok = in.master || c.fresh; c.fresh {
		in.last = time.Now()
	}
	c.busy, c.fresh = ok, false
	return in.term, ok
}

// end reports whether the connection goes on.
func (in *lineInstance) end(c *lineConn) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	c.busy = false
	return in.master
}

// shut ends the mastership and closes what nothing has begun on.
func (in *lineInstance) shut() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.master = false
	for c := range in.conns {
		if !c.busy && !c.fresh {
			_ = c.Close()
			delete(in.conns, c)
		}
	}
}

func (in *lineInstance) open() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.conns)
}

func (in *lineInstance) quiet() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return time.Since(in.last) >= quiet
}

// contract is the HTTP driver contract.
func (in *lineInstance) contract() http.Handler {
	type order struct {
		Term     uint64
		Deadline time.Time
	}
	say := func(w http.ResponseWriter, body any) { _ = json.NewEncoder(w).Encode(body) }
	take := func(r *http.Request) (o order) {
		_ = json.NewDecoder(r.Body).Decode(&o)
		return o
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /go-on", func(http.ResponseWriter, *http.Request) { in.letGo() })
	mux.HandleFunc("GET /signalbox/ready", func(w http.ResponseWriter, _ *http.Request) { say(w, map[string]any{"ready": true}) })
	mux.HandleFunc("GET /signalbox/mastership", func(w http.ResponseWriter, _ *http.Request) {
		in.mu.Lock()
		defer in.mu.Unlock()
		say(w, map[string]any{"master": in.master, "term": in.term, "in_flight": len(in.conns), "slow": in.slow})
	})
	mux.HandleFunc("POST /signalbox/promote", func(w http.ResponseWriter, r *http.Request) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.master, in.term = true, take(r).Term
		say(w, map[string]any{"master": true, "term": in.term})
	})
	mux.HandleFunc("POST /signalbox/step-down", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithDeadline(r.Context(), take(r).Deadline)
		defer cancel()
		until(ctx, quietMost, in.quiet)
		in.shut()
		until(ctx, patience, func() bool { return in.open() == 0 })
		say(w, map[string]any{"drained": in.open() == 0, "in_flight": in.open()})
	})
	return mux
}

// until returns when ok is true, or ctx or the time is over.
func until(ctx context.Context, most time.Duration, ok func() bool) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	pace := time.NewTicker(time.Millisecond / 2)
	defer pace.Stop()
	for !ok() && ctx.Err() == nil {
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}
