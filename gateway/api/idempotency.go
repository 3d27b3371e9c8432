package api

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// headerKey is the request header that makes a POST safe to repeat.
const headerKey = "Idempotency-Key"

// answers remembers what was answered to recent keys. It catches a key that is
// used for something else, and makes a repeated request wait for the first one
// instead of racing it. Only successes are kept: a refusal moved nothing, so it
// may be decided anew. What it forgets, the handover's id still knows.
type answers struct {
	mu     sync.Mutex
	byKey  map[string]*list.Element
	recent *list.List // of *answer, newest first
}

type answer struct {
	key     string
	request [sha256.Size]byte
	done    chan struct{}
	// Set before done is closed.
	ok     bool
	status int
	header http.Header
	body   []byte
}

func newAnswers() *answers {
	return &answers{byKey: map[string]*list.Element{}, recent: list.New()}
}

// claim returns the answer of key, and whether the caller is the one to give it.
func (a *answers) claim(key string, request [sha256.Size]byte) (*answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.byKey[key]; ok {
		a.recent.MoveToFront(e)
		return e.Value.(*answer), false
	}
	// What is in flight is never evicted: MaxRequests is far below MaxKeys.
	if a.recent.Len() >= MaxKeys {
		a.remove(a.recent.Back())
	}
	fresh := &answer{key: key, request: request, done: make(chan struct{})}
	a.byKey[key] = a.recent.PushFront(fresh)
	return fresh, true
}

func (a *answers) remove(e *list.Element) {
	a.recent.Remove(e)
	delete(a.byKey, e.Value.(*answer).key)
}

// settle publishes the answer to those who wait, and forgets it unless it is a
// success.
func (a *answers) settle(x *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.byKey[x.key]; ok && e.Value == x && !x.ok {
		a.remove(e)
	}
	close(x.done)
}

// once makes a POST with a key happen once at this gateway.
func (s *server) once(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get(headerKey)
		if r.Method != http.MethodPost || key == "" {
			next.ServeHTTP(w, r)
			return
		}
		if problem := checkKey(key); problem != nil {
			writeProblem(w, problem)
			return
		}
		body, _ := io.ReadAll(r.Body) // receive made it a buffer: it cannot fail
		request := sha256.Sum256([]byte(r.URL.Path + "\n" + r.Header.Get("If-Match") + "\n" + string(body)))
		for {
			x, mine := s.answers.claim(callerOf(r.Context())+"\n"+key, request)
			if mine {
				r.Body = io.NopCloser(bytes.NewReader(body))
				s.give(w, r, next, x)
				return
			}
			if x.request != request {
				writeProblem(w, newProblem(CodeKeyReused, fmt.Sprintf("%s %q came with another request before", headerKey, key)))
				return
			}
			if !await(r.Context(), x) {
				return
			}
			if x.ok {
				x.replay(w)
				return
			}
		}
	})
}

func await(ctx context.Context, x *answer) bool {
	select {
	case <-x.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// give answers a request and keeps the answer.
func (s *server) give(w http.ResponseWriter, r *http.Request, next http.Handler, x *answer) {
	defer s.answers.settle(x) // also when the handler panics
	record := &recorder{ResponseWriter: w}
	next.ServeHTTP(record, r)
	x.ok = record.status >= 200 && record.status < 300
	x.status, x.header, x.body = record.status, w.Header().Clone(), record.body.Bytes()
}

func (x *answer) replay(w http.ResponseWriter) {
	for name, values := range x.header {
		w.Header()[name] = values
	}
	w.Header().Set("Idempotent-Replayed", "true")
	w.WriteHeader(x.status)
	_, _ = w.Write(x.body) // a client that is gone asks again
}

// recorder copies a response while it is written.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write notes the bytes.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func checkKey(key string) *Problem {
	if len(key) > MaxKey {
		return newProblem(CodeInvalid, fmt.Sprintf("%s has %d bytes, at most %d", headerKey, len(key), MaxKey))
	}
	if strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }) {
		return newProblem(CodeInvalid, headerKey+": use visible ASCII characters")
	}
	return nil
}

// HandoverID returns the id of the handover that an order starts. The same
// caller, service and key give the same id at every gateway, so the log itself
// knows a repeated order; without a key it is random.
func HandoverID(cluster, caller, service, key string) string {
	seed := []byte(strings.Join([]string{"signalbox order", cluster, caller, service, key}, "\n"))
	if key == "" {
		seed = make([]byte, 16)
		_, _ = rand.Read(seed) // never fails: crypto/rand ends the process instead
	}
	sum := sha256.Sum256(seed)
	return service + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:12])
}
