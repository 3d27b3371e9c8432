package guard

import (
	"bufio"
	"net"
	"net/http"
	"sync"
)

// maxHeld is how many bytes of a reply are held back until its handler returns.
const maxHeld = 32 << 10

// reply holds a handler's reply back until the lease was looked at once more. A
// handler that the machine stopped for a while must not report as a success what
// it did, or did not do, as master of long ago.
//
// Up to maxHeld bytes nothing goes out before the handler returns. A longer reply,
// or one that is flushed, goes out as it is written, each part only while the
// lease is live; when it is not any more the connection is cut, so that nobody
// takes the part for the whole.
type reply struct {
	http.ResponseWriter
	gate   *Gate
	status int
	held   []byte
	passed bool // something went out
	over   bool // the lease had run out when something was to go out
	taken  bool // hijacked
}

var replies = sync.Pool{New: func() any { return &reply{held: make([]byte, 0, 4<<10)} }}

// serveLeased serves a request of a term that uses leases.
func (h *guarded) serveLeased(w http.ResponseWriter, r *http.Request) {
	v := replies.Get().(*reply)
	v.ResponseWriter, v.gate = w, h.gate
	h.next.ServeHTTP(v, r)
	// Not after a panic: somebody may still hold it.
	v.finish()
	if cap(v.held) <= maxHeld {
		*v = reply{held: v.held[:0]}
		replies.Put(v)
	}
}

// WriteHeader implements http.ResponseWriter. Informational ones go out at once.
func (v *reply) WriteHeader(status int) {
	switch {
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		if v.live() {
			v.ResponseWriter.WriteHeader(status)
		}
	case v.status == 0:
		v.status = status
	}
}

// Write implements http.ResponseWriter.
func (v *reply) Write(p []byte) (int, error) {
	if v.over {
		return 0, ErrLeaseOver
	}
	if v.status == 0 {
		v.status = http.StatusOK
	}
	if !v.passed && len(v.held)+len(p) <= maxHeld {
		v.held = append(v.held, p...)
		return len(p), nil
	}
	if err := v.pass(); err != nil {
		return 0, err
	}
	return v.ResponseWriter.Write(p)
}

// WriteString saves a copy.
func (v *reply) WriteString(s string) (int, error) {
	if !v.over && !v.passed && len(v.held)+len(s) <= maxHeld {
		if v.status == 0 {
			v.status = http.StatusOK
		}
		v.held = append(v.held, s...)
		return len(s), nil
	}
	return v.Write([]byte(s))
}

// live looks at the lease; once over, it stays so for this reply.
func (v *reply) live() bool {
	if !v.over {
		_, live := v.gate.leased()
		v.over = !live
	}
	return !v.over
}

// pass lets out what was held, while the lease is live.
func (v *reply) pass() error {
	if !v.live() {
		return ErrLeaseOver
	}
	if v.passed {
		return nil
	}
	v.passed = true
	if v.status != 0 {
		v.ResponseWriter.WriteHeader(v.status)
	}
	if len(v.held) == 0 {
		return nil
	}
	_, err := v.ResponseWriter.Write(v.held)
	return err
}

// finish sends what was held, or says that nobody knows what became of the
// request. That is no X-Signalbox-Not-Master, after which it would be tried again
// elsewhere: it may well have been carried out here.
func (v *reply) finish() {
	if v.taken {
		return
	}
	if v.pass() == nil {
		return // an error of the connection is the server's
	}
	v.gate.late.Add(1)
	if v.passed {
		panic(http.ErrAbortHandler)
	}
	clear(v.Header())
	http.Error(v.ResponseWriter, "this instance's lease ran out while it served the request: whether it took effect is not known", http.StatusGatewayTimeout)
}

// FlushError sends what was held, for http.ResponseController.
func (v *reply) FlushError() error {
	if v.status == 0 {
		v.status = http.StatusOK
	}
	if err := v.pass(); err != nil {
		return err
	}
	return http.NewResponseController(v.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (v *reply) Flush() { _ = v.FlushError() }

// Hijack implements http.Hijacker. What is written to the connection is not held;
// it counts as in flight until the handler returns.
func (v *reply) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !v.live() {
		return nil, nil, ErrLeaseOver
	}
	conn, rw, err := http.NewResponseController(v.ResponseWriter).Hijack()
	v.taken = err == nil
	return conn, rw, err
}

// Unwrap lets http.ResponseController set deadlines.
func (v *reply) Unwrap() http.ResponseWriter { return v.ResponseWriter }
