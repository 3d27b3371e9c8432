// Package shop is the example's business: orders are written and read. It
// knows nothing of mastership but the term that a request is served at.
//
// Orders are kept in memory, bounded; the write log is the truth.
package shop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// MaxID is the longest id of an order, in bytes.
	MaxID = 128
	// MaxBody bounds the body of a request, in bytes.
	MaxBody = 64 << 10
	// MaxOrders is how many orders are remembered; the oldest go first.
	MaxOrders = 100_000
	// MaxSlow bounds ?slow=.
	MaxSlow = 30 * time.Second
)

// Options say who serves and how a request's authority is found.
type Options struct {
	Instance string
	Log      *WriteLog
	// Term returns the term that a request was admitted at.
	Term func(*http.Request) uint64
	// Live reports, just before a write takes effect, whether the instance
	// still may; nil means that it always may once admitted.
	Live   func(*http.Request) bool
	Logger zerolog.Logger
}

// Shop serves orders.
type Shop struct {
	opts Options

	mu     sync.RWMutex
	orders map[string]uint64 // id to the term it was written at
	ring   []string          // ids by age, next is the oldest
	next   int
}

// New returns an empty shop.
func New(opts Options) *Shop {
	if opts.Live == nil {
		opts.Live = func(*http.Request) bool { return true }
	}
	return &Shop{opts: opts, orders: map[string]uint64{}}
}

// Handler serves POST /orders and GET /orders/{id}; ?slow=300ms makes either
// take that long.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.post)
	mux.HandleFunc("GET /orders/{id}", s.get)
	return mux
}

func (s *Shop) post(w http.ResponseWriter, r *http.Request) {
	write := Write{Term: s.opts.Term(r), Begin: Now()}
	var body struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody)).Decode(&body); err != nil {
		s.answer(w, http.StatusBadRequest, write.Term, fmt.Sprintf(`{"error":%q}`, "read order: "+err.Error()))
		return
	}
	if !validID(body.ID) {
		s.answer(w, http.StatusBadRequest, write.Term, fmt.Sprintf(`{"error":"an id has 1 to %d letters, digits, dots, dashes or underscores"}`, MaxID))
		return
	}
	if !s.dawdle(w, r, write.Term) {
		return
	}
	if !s.opts.Live(r) {
		w.Header().Set("X-Signalbox-Not-Master", strconv.FormatUint(write.Term, 10))
		s.answer(w, http.StatusServiceUnavailable, write.Term, `{"error":"the lease ran out"}`)
		return
	}
	write.ID = body.ID
	s.remember(write)
	write.End = Now()
	if err := s.opts.Log.Append(write); err != nil {
		s.opts.Logger.Error().Err(err).Str("event", "write_log").Msg("cannot log a write")
		s.answer(w, http.StatusInternalServerError, write.Term, `{"error":"the write could not be logged"}`)
		return
	}
	s.answer(w, http.StatusCreated, write.Term, fmt.Sprintf(`{"id":%q,"term":%d}`, write.ID, write.Term))
}

func (s *Shop) get(w http.ResponseWriter, r *http.Request) {
	term := s.opts.Term(r)
	if !s.dawdle(w, r, term) {
		return
	}
	id := r.PathValue("id")
	s.mu.RLock()
	written, found := s.orders[id]
	s.mu.RUnlock()
	if !found {
		s.answer(w, http.StatusNotFound, term, `{"error":"this instance knows no such order"}`)
		return
	}
	s.answer(w, http.StatusOK, term, fmt.Sprintf(`{"id":%q,"term":%d}`, id, written))
}

// dawdle takes the time that ?slow= asks for. It reports false when the
// request is over: answered as wrong, or its client gone.
func (s *Shop) dawdle(w http.ResponseWriter, r *http.Request, term uint64) bool {
	if r.URL.RawQuery == "" {
		return true
	}
	text := r.URL.Query().Get("slow")
	if text == "" {
		return true
	}
	slow, err := time.ParseDuration(text)
	if err != nil || slow < 0 || slow > MaxSlow {
		s.answer(w, http.StatusBadRequest, term, fmt.Sprintf(`{"error":"slow is a duration between 0s and %s"}`, MaxSlow))
		return false
	}
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *Shop) remember(w Write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.orders[w.ID]; !again {
		if len(s.ring) < MaxOrders {
			s.ring = append(s.ring, w.ID)
		} else {
			delete(s.orders, s.ring[s.next])
			s.ring[s.next] = w.ID
			s.next = (s.next + 1) % MaxOrders
		}
	}
	s.orders[w.ID] = w.Term
}

// answer names who served at which term, so that a client's log can be
// compared with the write logs.
func (s *Shop) answer(w http.ResponseWriter, status int, term uint64, body string) {
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("X-Served-By", s.opts.Instance)
	head.Set("X-Served-Term", strconv.FormatUint(term, 10))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func validID(id string) bool {
	if id == "" || len(id) > MaxID {
		return false
	}
	for _, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
