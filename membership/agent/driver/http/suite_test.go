package httpdriver_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	httpdriver "github.com/signalbox-io/signalbox/membership/agent/driver/http"
)

// process is a service that speaks the contract, with a gate of its own.
type process struct {
	hold, entered chan struct{}

	mu       sync.Mutex
	gate     *guard.Gate
	handler  http.Handler
	run      int
	newest   signalbox.Term // kept by the service over its restarts
	position string         // what its data reached as master
	spoiled  bool
	incoming []driver.Peer // what the newest step-down said
}

func newProcess() *process {
	p := &process{hold: make(chan struct{}), entered: make(chan struct{})}
	p.start()
	return p
}

// start starts the process, again.
func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run++
	p.gate = guard.New(guard.Options{})
	p.handler = p.gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(p.entered)
			<-p.hold
		}
	}))
}

func (p *process) clients(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	h := p.handler
	p.mu.Unlock()
	h.ServeHTTP(w, r)
}

// contract is the agent's side.
func (p *process) contract(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Term     signalbox.Term
		Deadline time.Time
		Position string
		TTL      float64 `json:"ttl_seconds"`
		Incoming []driver.Peer
	}
	_ = json.NewDecoder(r.Body).Decode(&order)
	p.mu.Lock()
	gate, run, spoiled := p.gate, p.run, p.spoiled
	p.mu.Unlock()
	reply := map[string]any{}
	var err error
	switch r.URL.Path {
	case "/ready":
		reply["ready"] = !spoiled
		if spoiled {
			reply["problems"] = []map[string]string{{"name": "cache-cold", "what": "the cache is cold", "do": "warm it"}}
		}
	case "/mastership":
		status, _ := gate.Status(r.Context())
		reply["master"], reply["term"], reply["in_flight"], reply["run"] = status.Master, status.Term, status.InFlight, strconv.Itoa(run)
	case "/step-down":
		status, _ := gate.Status(r.Context())
		_, err = gate.StepDown(r.Context(), driver.StepDown{Term: order.Term})
		p.mu.Lock()
		p.incoming = order.Incoming
		if status.Master && err == nil {
			p.position = "after term " + strconv.Itoa(int(status.Term))
		}
		reply["drained"], reply["position"] = err == nil, p.position
		p.mu.Unlock()
	case "/lease":
		left := time.Duration(order.TTL * float64(time.Second))
		err = gate.Lease(r.Context(), driver.LeaseOrder{Term: order.Term, Deadline: order.Deadline, Boot: driver.BootTime() + left})
		reply["leased"] = err == nil
	case "/promote":
		p.mu.Lock()
		refused := order.Term < p.newest || order.Position == "beyond"
		p.mu.Unlock()
		if refused {
			err = signalbox.ErrRefused
		} else if err = gate.Promote(r.Context(), driver.Promotion{Term: order.Term}); err == nil {
			p.mu.Lock()
			p.newest = max(p.newest, order.Term)
			p.mu.Unlock()
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		reply["detail"] = err.Error()
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// TestDriver runs the suite of all drivers against a service that speaks the
// contract over HTTP.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		p := newProcess()
		clients := httptest.NewServer(http.HandlerFunc(p.clients))
		t.Cleanup(clients.Close)
		contract := httptest.NewServer(http.HandlerFunc(p.contract))
		t.Cleanup(contract.Close)
		open := func(t *testing.T) driver.Driver {
			d, err := httpdriver.New(contract.URL)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Stop(context.Background()) })
			return d
		}
		ask := func(path string) bool {
			resp, err := http.Get(clients.URL + path)
			if err != nil {
				t.Error(err)
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}
		return drivertest.Subject{
			Driver: open(t), Reopen: open, Positions: true, Beyond: driver.Position("beyond"),
			Serves:  func() bool { return ask("/") },
			Restart: func(*testing.T) { p.start() },
			Incoming: func() []driver.Peer {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.incoming
			},
			Spoil: func(*testing.T) string {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.spoiled = true
				return "cache-cold"
			},
			Busy: func(*testing.T) func() {
				done := make(chan struct{})
				go func() {
					defer close(done)
					ask("/slow")
				}()
				<-p.entered
				return func() { close(p.hold); <-done }
			},
		}
	})
}
