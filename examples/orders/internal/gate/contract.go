package gate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// HeaderTerm carries the term of the route a request came by; the proxy
	// overwrites what a client sends.
	HeaderTerm = "X-Signalbox-Term"
	// HeaderNotMaster carries the own term of an instance that refuses.
	HeaderNotMaster = "X-Signalbox-Not-Master"

	// MaxBody bounds the body of a contract call, in bytes.
	MaxBody = 4 << 10
	// DefaultDrain is the time to drain when step-down names no deadline.
	DefaultDrain = 5 * time.Second
	// MaxLease bounds a lease: a deadline beyond it is somebody's clock.
	MaxLease = time.Minute
	// MaxDrain bounds what a deadline may ask for.
	MaxDrain = time.Minute
)

// Contract is Signalbox's HTTP driver contract for one service's instance.
type Contract struct {
	Service string
	Gate    *Gate
	Log     zerolog.Logger

	run     string // names this run of the process
	leaving atomic.Bool
}

// NewContract returns the contract of an instance that has just started.
func NewContract(service string, log zerolog.Logger) *Contract {
	return &Contract{Service: service, Gate: New(), Log: log, run: rand.Text()}
}

// Leave tells the agent, when it next asks, that this instance wants to stop,
// and returns when it has been stepped down, or with ctx's error.
func (c *Contract) Leave(ctx context.Context) error {
	c.leaving.Store(true)
	return c.Gate.AwaitDrained(ctx)
}

// order is the body of a contract call. Unknown fields are ignored, so that
// a newer agent can say more.
type order struct {
	Service  string `json:"service"`
	Term     uint64 `json:"term"`
	Deadline string `json:"deadline"` // RFC 3339, nanoseconds
	// TTLSeconds is what is left of a lease by the agent's clock.
	TTLSeconds float64 `json:"ttl_seconds"`
	// Leased, in a promotion: the term uses leases.
	Leased   bool `json:"leased"`
	deadline time.Time
}

// Handler serves the contract below /signalbox/. What came through a proxy
// (it carries HeaderTerm) finds nothing there: clients give no orders.
func (c *Contract) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /signalbox/ready", c.ready)
	mux.HandleFunc("GET /signalbox/mastership", c.mastership)
	mux.HandleFunc("POST /signalbox/step-down", c.obey(c.stepDown))
	mux.HandleFunc("POST /signalbox/promote", c.obey(c.promote))
	mux.HandleFunc("POST /signalbox/lease", c.obey(c.lease))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(HeaderTerm) != "" {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

type termKey struct{}

// Wrap admits requests to next while the instance is master and answers 503
// otherwise.
func (c *Contract) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked uint64
		if text := r.Header.Get(HeaderTerm); text != "" {
			var err error
			if asked, err = strconv.ParseUint(text, 10, 64); err != nil {
				problem(w, http.StatusBadRequest, HeaderTerm+" is not a term", nil)
				return
			}
		}
		term, admitted := c.Gate.Enter(asked)
		if !admitted {
			w.Header().Set(HeaderNotMaster, strconv.FormatUint(term, 10))
			problem(w, http.StatusServiceUnavailable, "this instance is not the master", nil)
			return
		}
		defer c.Gate.Leave()
		held := &late{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(held, r.WithContext(context.WithValue(r.Context(), termKey{}, term)))
		if !c.Gate.Live() {
			clear(w.Header())
			// Without the header: it may have taken effect, and must not be
			// tried again as if it had not.
			problem(w, http.StatusGatewayTimeout, "the lease ran out while the request was served; nobody knows whether it took effect", nil)
			return
		}
		w.WriteHeader(held.status)
		_, _ = w.Write(held.body) // the caller is gone: nobody is left to tell
	})
}

// late holds a reply back until it is known that the lease still holds. The
// shop's replies are small; a service with large ones checks at each part.
type late struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (l *late) WriteHeader(status int) { l.status = status }

func (l *late) Write(p []byte) (int, error) {
	l.body = append(l.body, p...)
	return len(p), nil
}

// Term returns the term at which Wrap admitted r, 0 for any other request.
func Term(r *http.Request) uint64 {
	term, _ := r.Context().Value(termKey{}).(uint64)
	return term
}

func (c *Contract) ready(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"service": c.Service, "ready": true, "lag_seconds": 0, "term": c.Gate.Status().Term,
	})
}

func (c *Contract) mastership(w http.ResponseWriter, _ *http.Request) {
	status := c.Gate.Status()
	reply(w, http.StatusOK, map[string]any{
		"service": c.Service, "master": status.Master, "term": status.Term, "in_flight": status.InFlight,
		"run": c.run, "leaving": c.leaving.Load(),
	})
}

func (c *Contract) stepDown(w http.ResponseWriter, r *http.Request, o order) {
	latest := time.Now().Add(MaxDrain)
	deadline := o.deadline
	switch {
	case deadline.IsZero():
		deadline = time.Now().Add(DefaultDrain)
	case deadline.After(latest):
		deadline = latest
	}
	drain, err := c.Gate.StepDown(r.Context(), o.Term, deadline)
	body := map[string]any{"service": c.Service, "term": o.Term, "drained": drain.Drained, "in_flight": drain.InFlight}
	c.Log.Info().Str("event", "step_down").Uint64("term", o.Term).Bool("drained", drain.Drained).
		Int("in_flight", drain.InFlight).AnErr("reason", err).Msg("stepping down")
	switch {
	case err != nil:
		problem(w, http.StatusConflict, err.Error(), body)
	case !drain.Drained:
		problem(w, http.StatusGatewayTimeout, fmt.Sprintf("%d requests still in flight at the deadline; closed until promoted", drain.InFlight), body)
	default:
		reply(w, http.StatusOK, body)
	}
}

func (c *Contract) promote(w http.ResponseWriter, _ *http.Request, o order) {
	if o.Term == 0 {
		problem(w, http.StatusBadRequest, "term is missing", nil)
		return
	}
	if o.Leased && !c.Gate.Leased(o.Term) {
		problem(w, http.StatusConflict, fmt.Sprintf("no live lease of term %d came since this instance was started", o.Term), nil)
		return
	}
	if err := c.Gate.Promote(o.Term); err != nil {
		problem(w, http.StatusConflict, err.Error(), map[string]any{"term": c.Gate.Status().Term})
		return
	}
	c.Log.Info().Str("event", "promote").Uint64("term", o.Term).Msg("master")
	reply(w, http.StatusOK, map[string]any{"service": c.Service, "master": true, "term": o.Term})
}

func (c *Contract) lease(w http.ResponseWriter, _ *http.Request, o order) {
	if o.deadline.IsZero() {
		problem(w, http.StatusBadRequest, "deadline is missing", nil)
		return
	}
	left := time.Until(o.deadline)
	if o.TTLSeconds > 0 {
		left = min(left, time.Duration(o.TTLSeconds*float64(time.Second)))
	}
	if left > MaxLease {
		problem(w, http.StatusBadRequest, fmt.Sprintf("a lease of %s: at most %s", left, MaxLease), nil)
		return
	}
	if err := c.Gate.Lease(o.Term, o.deadline, left); err != nil {
		problem(w, http.StatusConflict, err.Error(), map[string]any{"term": c.Gate.Status().Term})
		return
	}
	reply(w, http.StatusOK, map[string]any{"service": c.Service, "term": o.Term, "deadline": o.Deadline, "leased": true})
}

// obey reads and checks the body before do acts on it.
func (c *Contract) obey(do func(http.ResponseWriter, *http.Request, order)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := readOrder(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error(), nil)
			return
		}
		if o.Service != "" && o.Service != c.Service {
			problem(w, http.StatusConflict, fmt.Sprintf("this is an instance of %q, the order is for %q", c.Service, o.Service), nil)
			return
		}
		do(w, r, o)
	}
}

func readOrder(body io.Reader) (order, error) {
	var o order
	if err := json.NewDecoder(body).Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		return o, fmt.Errorf("read order: %w", err)
	}
	if o.Deadline != "" {
		var err error
		if o.deadline, err = time.Parse(time.RFC3339Nano, o.Deadline); err != nil {
			return o, fmt.Errorf("read deadline: %w", err)
		}
	}
	return o, nil
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone: nobody is left to tell
}

// problem answers as RFC 9457 has it, with the members of more added.
func problem(w http.ResponseWriter, status int, detail string, more map[string]any) {
	body := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	for key, value := range more {
		body[key] = value
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
