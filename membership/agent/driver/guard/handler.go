package guard

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
)

func promoteError(asked, own signalbox.Term) error {
	return fmt.Errorf("promote to term %d: %w: the gate has served term %d", asked, signalbox.ErrRefused, own)
}

func stepDownError(asked, own signalbox.Term) error {
	return fmt.Errorf("step down from term %d: %w: the gate was promoted to term %d", asked, signalbox.ErrConflict, own)
}

// Wrap puts the gate in front of next. A request that is admitted reaches next
// with its X-Signalbox-Term header set to the term that it is served at; see
// TermFrom. One that is not gets status 503 and X-Signalbox-Not-Master, or, when
// its term header is no number, 400.
//
// Where the term uses leases, the reply is held back (up to 32 KiB, and until it
// is flushed) and the lease looked at once more. When it has run out meanwhile the
// reply is 504: nobody knows whether the request took effect, so it must not be
// tried again elsewhere as if nothing had happened. What remains: a process that
// is stopped between this look and its last write to the socket, or to a storage.
// There the term is the fencing token.
func (g *Gate) Wrap(next http.Handler) http.Handler { return &guarded{gate: g, next: next} }

// TermFrom returns the term at which a request is served, the fencing token to
// write beside whatever the request changes. It is right only behind Wrap, which
// overwrites the header that it reads; a request that came another way gives
// what its sender wrote, or 0.
func TermFrom(r *http.Request) signalbox.Term {
	t, _ := askedTerm(r.Header[signalbox.HeaderTerm])
	return t
}

type guarded struct {
	gate *Gate
	next http.Handler
}

// ServeHTTP is the hot path: two atomic adds and a look at one header.
func (h *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	values := r.Header[signalbox.HeaderTerm]
	asked, ok := askedTerm(values)
	if !ok {
		http.Error(w, signalbox.HeaderTerm+" is not one term: a decimal number", http.StatusBadRequest)
		return
	}
	if !h.gate.enter() {
		h.closed(w, r, asked)
		return
	}
	h.entered(w, r, asked)
}

// entered serves a request that was counted in.
func (h *guarded) entered(w http.ResponseWriter, r *http.Request, asked signalbox.Term) {
	g := h.gate
	defer g.leave()
	own := g.serving.Load()
	if asked > own.term {
		g.tellStale(asked)
		g.refuse(w)
		return
	}
	leased, live := g.leased()
	if !live {
		g.refuse(w)
		return
	}
	if values := r.Header[signalbox.HeaderTerm]; len(values) == 1 {
		values[0] = own.text
	} else {
		r.Header[signalbox.HeaderTerm] = []string{own.text}
	}
	if isStream(r) {
		ctx, done := g.streams.add(r.Context())
		defer done()
		if g.word.Load()&closedBit != 0 {
			if g.streams.cutting() {
				g.refuse(w) // closed meanwhile: the cut may have missed it
				return
			}
			g.tellDrain() // it counted as an ordinary request until now
		}
		r = r.WithContext(ctx)
	}
	if leased {
		h.serveLeased(w, r)
		return
	}
	h.next.ServeHTTP(w, r)
}

// closed parks a request that came to a closed gate, or refuses it.
func (h *guarded) closed(w http.ResponseWriter, r *http.Request, asked signalbox.Term) {
	g := h.gate
	_, park := g.waiting()
	if park <= 0 {
		g.refuse(w)
		return
	}
	if g.parked.Add(1) > int64(g.opts.MaxParked) {
		g.parked.Add(-1)
		g.refuse(w)
		return
	}
	g.parkedTotal.Add(1)
	admitted := g.wait(r.Context(), park)
	g.parked.Add(-1)
	switch {
	case admitted:
		h.entered(w, r, asked)
	case r.Context().Err() == nil:
		g.refuse(w)
	}
}

// wait blocks until the gate admits (true: counted in), or nothing is to be
// waited for any more.
func (g *Gate) wait(ctx context.Context, park time.Duration) bool {
	timer := time.NewTimer(park)
	defer timer.Stop()
	for {
		turn, park := g.waiting() // before enter: a promotion after it closes turn
		if g.enter() {
			return true
		}
		if park <= 0 {
			return false
		}
		select {
		case <-turn:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (g *Gate) waiting() (turn <-chan struct{}, park time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.turn, g.park
}

// refuse answers that the request was not processed.
func (g *Gate) refuse(w http.ResponseWriter) {
	g.refused.Add(1)
	g.mu.Lock()
	known := max(g.known, g.serving.Load().term)
	g.mu.Unlock()
	w.Header().Set(signalbox.HeaderNotMaster, strconv.FormatUint(uint64(known), 10))
	http.Error(w, "this instance is not master: the request was not processed", http.StatusServiceUnavailable)
}

// tellStale reports a term from above, once as long as no other one comes.
func (g *Gate) tellStale(term signalbox.Term) {
	if g.stale.Swap(uint64(term)) != uint64(term) && g.opts.Stale != nil {
		g.opts.Stale(term)
	}
}

// Counts are what a gate did with requests that it could not serve at once.
type Counts struct {
	// Refused and Parked only grow; Waiting is how many are parked now.
	Refused, Parked uint64
	// Late counts replies that were not sent because the lease had run out.
	Late    uint64
	Waiting int64
}

// Counts returns the gate's counts.
func (g *Gate) Counts() Counts {
	return Counts{Refused: g.refused.Load(), Parked: g.parkedTotal.Load(), Waiting: g.parked.Load(), Late: g.late.Load()}
}

// askedTerm reads the header's values without allocating. No value is term 0: a
// request that did not come through a proxy.
func askedTerm(values []string) (signalbox.Term, bool) {
	if len(values) == 0 {
		return 0, true
	}
	text := values[0]
	if len(values) > 1 || len(text) == 0 || len(text) > 19 { // 19 digits cannot overflow
		return 0, false
	}
	var t signalbox.Term
	for i := 0; i < len(text); i++ {
		c := text[i] - '0'
		if c > 9 {
			return 0, false
		}
		t = t*10 + signalbox.Term(c)
	}
	return t, true
}

// isStream tells what the policies are about: upgrades and event streams.
func isStream(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || r.Method == http.MethodConnect ||
		len(r.Header["Accept"]) == 1 && strings.HasPrefix(r.Header["Accept"][0], "text/event-stream")
}

// streamSet holds the streams that are open.
type streamSet struct {
	mu     sync.Mutex
	next   uint64
	open   map[uint64]context.CancelFunc
	policy signalbox.StreamPolicy // of the last step-down
}

func (s *streamSet) add(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[uint64]context.CancelFunc{}
	}
	s.next++
	id := s.next
	s.open[id] = cancel
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, id)
	}
}

// keep says what the step-down that begins does with streams.
func (s *streamSet) keep(policy signalbox.StreamPolicy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = policy
}

func (s *streamSet) cutting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy == signalbox.StreamsCut
}

func (s *streamSet) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.open))
}

// cut cancels every stream that was added before.
func (s *streamSet) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.open {
		cancel()
	}
}
