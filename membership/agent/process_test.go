package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	httpdriver "github.com/signalbox-io/signalbox/membership/agent/driver/http"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// process is an instance outside the agent: a gate behind the HTTP contract.
type process struct {
	t      *testing.T
	server *httptest.Server

	mu         sync.Mutex
	gate       *guard.Gate
	stepDowns  int
	promotions int
}

func newProcess(t *testing.T) *process {
	p := &process{t: t, gate: guard.New(guard.Options{})}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *process) current() *guard.Gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gate
}

// restart is a new process at the same address: closed, at term 0.
func (p *process) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = guard.New(guard.Options{})
}

func (p *process) count(n *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
}

func (p *process) orders() (stepDowns, promotions int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stepDowns, p.promotions
}

func (p *process) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	gate := p.current()
	var order struct {
		Term signalbox.Term `json:"term"`
	}
	_ = json.NewDecoder(r.Body).Decode(&order)
	reply := map[string]any{}
	var err error
	switch r.URL.Path {
	case "/ready":
		reply["ready"] = true
	case "/mastership":
		status, _ := gate.Status(r.Context())
		reply["master"], reply["term"], reply["in_flight"] = status.Master, status.Term, status.InFlight
	case "/step-down":
		p.count(&p.stepDowns)
		_, err = gate.StepDown(r.Context(), driver.StepDown{Term: order.Term})
		reply["drained"] = err == nil
	case "/promote":
		p.count(&p.promotions)
		err = gate.Promote(r.Context(), driver.Promotion{Term: order.Term})
	}
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		reply["detail"] = err.Error()
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// runFor runs an agent for the process until the returned function is called.
func runFor(t *testing.T, g *gateway, opts Options, p *process) func() {
	t.Helper()
	d, err := httpdriver.New(p.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	opts.Instances = []Instance{{Service: "orders", Name: "a", Address: "127.0.0.1:80", Driver: d, DriverName: "http"}}
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	g.w.keys["a"] = a.runners[0].store.key
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Run(ctx)
	}()
	stop := sync.OnceFunc(func() { cancel(); <-done; _ = d.Stop(context.Background()) })
	t.Cleanup(stop)
	return stop
}

// A process behind the HTTP driver over real sockets: promoted, taken over by a
// restarted agent without an interruption, started again itself and promoted
// only after the voters' answers, handed over.
func TestProcessHandover(t *testing.T) {
	g, opts, _ := newGateway(t)
	p := newProcess(t)
	stop := runFor(t, g, opts, p)
	g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil })
	adopted, cert := g.w.adopt("a")
	g.grant(cert, nil)
	g.awaitSaid("a", signalbox.SaysServing)
	g.awaitState(StateServing)

	stop()
	runFor(t, g, opts, p)
	if s := g.awaitSaid("a", signalbox.SaysServing); s.Incarnation != 2 {
		t.Fatalf("said %+v", s)
	}
	if stepDowns, promotions := p.orders(); stepDowns != 0 || promotions != 1 {
		t.Fatalf("%d step-downs, %d promotions: the agent's restart interrupted", stepDowns, promotions)
	}

	g.mu.Lock()
	g.mute = true
	g.mu.Unlock()
	p.restart()
	g.awaitState(StateStarting)
	if status, _ := p.current().Status(t.Context()); status.Master {
		t.Fatal("promoted without the voters")
	}
	g.mu.Lock()
	g.mute = false
	g.mu.Unlock()
	g.awaitState(StateServing)

	block := g.w.handover(8, "east", "west", []string{"x"}, g.w.entry("a", "east", adopted.Index))
	g.order(drainOrder, block)
	g.awaitSaid("a", signalbox.SaysDrained)
	g.order(ackOrder, block)
	g.awaitSaid("a", signalbox.SaysAck)
	g.awaitState(StateAcked)
	if status, _ := p.current().Status(t.Context()); status.Master {
		t.Fatal("serves after its ack")
	}
}
