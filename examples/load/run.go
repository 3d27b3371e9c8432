package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Run makes the load until its duration is over or ctx ends, then waits for
// what is in flight, Grace at most. Failed requests are no error of Run: they
// are in the report. It may be called once.
func (g *Generator) Run(ctx context.Context) error {
	if g.started.Swap(true) {
		return errors.New("run load: it ran before")
	}
	defer g.transport.CloseIdleConnections()
	// What is in flight outlives ctx by Grace.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	err := g.schedule(ctx, requests)
	timer := time.AfterFunc(g.config.Grace, cut)
	defer timer.Stop()
	g.flying.Wait()
	return err
}

func (g *Generator) schedule(ctx, requests context.Context) error {
	mix := rand.New(rand.NewPCG(g.config.Seed, 1))
	start := Now()
	for ctx.Err() == nil {
		n := g.tape.n.Load()
		due := start + int64(float64(n)*float64(time.Second)/float64(g.config.Rate))
		if g.config.Duration > 0 && due-start >= int64(g.config.Duration) {
			return nil
		}
		if pause(ctx, due); ctx.Err() != nil {
			return nil
		}
		post, slow := mix.Float64() < g.config.PostFraction, mix.Float64() < g.config.SlowFraction
		var i int64
		s, room := g.tape.next(func(number int64, s *slot) {
			i = number
			s.sched, s.target = due, uint8(number%int64(len(g.targets)))
			if post {
				s.flags |= isPost
			}
			if slow {
				s.flags |= isSlow
			}
		})
		if !room {
			return fmt.Errorf("run load: %d requests are remembered, no more fit", MaxRecords)
		}
		if g.inFlight.Load() >= int64(g.config.InFlight) {
			s.begin = Now()
			g.finish(s, answer{failure: "not sent: too many in flight"})
			continue
		}
		g.inFlight.Add(1)
		g.flying.Go(func() {
			defer g.inFlight.Add(-1)
			s.begin = Now()
			g.finish(s, g.ask(requests, i, s))
		})
	}
	return nil
}

// answer is what came back for one request.
type answer struct {
	status   int
	instance string
	term     uint64
	failure  string
}

func (g *Generator) finish(s *slot, a answer) {
	s.end = Now()
	s.status, s.term = uint16(a.status), a.term
	s.instance, s.failure = g.tape.names.number(a.instance), g.tape.names.number(a.failure)
	if s.failed() {
		g.failed.Add(1)
	} else {
		g.answered.Add(1)
	}
	s.done.Store(1)
}

var (
	getHeader  = http.Header{"User-Agent": {"signalbox-load"}}
	postHeader = http.Header{"User-Agent": {"signalbox-load"}, "Content-Type": {"application/json"}}
	bodies     = sync.Pool{New: func() any { return new([MaxBody]byte) }}
)

func (g *Generator) ask(ctx context.Context, i int64, s *slot) answer {
	ctx, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	to := &g.targets[s.target]
	id := ""
	request := &http.Request{Method: http.MethodGet, Header: getHeader}
	address := to.base
	if s.flags&isPost != 0 {
		id = g.config.id(i)
		request.Method, request.Header = http.MethodPost, postHeader
		setBody(request, `{"id":"`+id+`"}`)
		address.Path += "/orders"
	} else {
		address.Path += "/orders/" + g.config.id(max(to.written.Load()-1, 0))
	}
	if s.slow() {
		address.RawQuery = "slow=" + url.QueryEscape(g.config.SlowFor.String())
	}
	request.URL = &address
	response, err := g.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return answer{failure: reason(err)}
	}
	a := read(response, id)
	if id != "" && a.failure == "" && a.status < 300 {
		to.written.Store(i + 1)
	}
	return a
}

func setBody(request *http.Request, body string) {
	request.ContentLength = int64(len(body))
	// GetBody lets the client go on with another connection when nothing
	// was sent on the first.
	request.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader([]byte(body))), nil
	}
	request.Body, _ = request.GetBody()
}

// read takes in the whole answer, which for a POST must carry its id.
func read(response *http.Response, id string) answer {
	defer response.Body.Close()
	a := answer{status: response.StatusCode, instance: response.Header.Get("X-Served-By")}
	a.term, _ = strconv.ParseUint(response.Header.Get("X-Served-Term"), 10, 64)
	buffer := bodies.Get().(*[MaxBody]byte)
	defer bodies.Put(buffer)
	n := 0
	for n < MaxBody {
		m, err := response.Body.Read(buffer[n:])
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			a.failure = "body: " + reason(err)
			return a
		}
	}
	if id != "" && a.status < 500 && !bytes.Contains(buffer[:n], []byte(`"`+id+`"`)) {
		a.failure = "answered without its id: status " + strconv.Itoa(a.status)
	}
	return a
}

// reason names an error without what differs from request to request, such as
// ports.
func reason(err error) string {
	var number syscall.Errno
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cut off at the end of the load"
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	default:
		return err.Error()
	}
}
