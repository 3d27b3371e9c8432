package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

const (
	chunkSize = 1 << 14
	// maxNames bounds the distinct instances and errors that are told apart.
	maxNames = 1024
)

const (
	isPost = 1 << iota
	isSlow
)

// slot is one request. done is stored last and read first: it publishes the
// other fields from the request's goroutine to readers.
type slot struct {
	sched, begin, end int64
	term              uint64
	done              atomic.Uint32
	status            uint16
	instance, failure uint16 // names
	target, flags     uint8
}

func (s *slot) slow() bool   { return s.flags&isSlow != 0 }
func (s *slot) failed() bool { return s.failure != 0 || s.status == 0 || s.status >= 500 }

// tape keeps requests in the order of their scheduled times. One goroutine
// appends, any number read.
type tape struct {
	config Config
	n      atomic.Int64
	chunks [MaxRecords / chunkSize]atomic.Pointer[[chunkSize]slot]
	names  names
}

func newTape(config Config) *tape {
	t := &tape{config: config, names: names{list: []string{""}, index: map[string]uint16{"": 0}}}
	t.chunks[0].Store(new([chunkSize]slot))
	return t
}

// next returns the number of a new request; false when the tape is full. Its
// slot becomes visible to readers when fill returns it.
func (t *tape) next(fill func(int64, *slot)) (*slot, bool) {
	i := t.n.Load()
	if i == MaxRecords {
		return nil, false
	}
	if i%chunkSize == 0 && i > 0 {
		t.chunks[i/chunkSize].Store(new([chunkSize]slot))
	}
	s := t.at(i)
	fill(i, s)
	t.n.Store(i + 1)
	return s, true
}

func (t *tape) at(i int64) *slot {
	return &t.chunks[i/chunkSize].Load()[i%chunkSize]
}

// search returns the first request scheduled at or after sched.
func (t *tape) search(sched int64) int64 {
	low, high := int64(0), t.n.Load()
	for low < high {
		middle := (low + high) / 2
		if t.at(middle).sched < sched {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// names gives short numbers to strings that repeat.
type names struct {
	mu    sync.RWMutex
	list  []string
	index map[string]uint16
}

func (n *names) number(name string) uint16 {
	n.mu.RLock()
	number, known := n.index[name]
	n.mu.RUnlock()
	if known {
		return number
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, known := n.index[name]; known {
		return number
	}
	if len(n.list) >= maxNames-1 {
		name = "(other)"
		if number, known := n.index[name]; known {
			return number
		}
	}
	number = uint16(len(n.list))
	n.list = append(n.list, name)
	n.index[name] = number
	return number
}

func (n *names) name(number uint16) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.list[number]
}

// Record is one request as it stands in the log. Times are raw
// CLOCK_MONOTONIC in nanoseconds: due, sent, answered in full.
type Record struct {
	ID       string `json:"id"`
	Method   string `json:"method"`
	Target   string `json:"target"`
	Status   int    `json:"status,omitempty"`
	Error    string `json:"error,omitempty"`
	Sched    int64  `json:"sched_ns"`
	Begin    int64  `json:"begin_ns"`
	End      int64  `json:"end_ns"`
	Slow     bool   `json:"slow,omitempty"`
	Instance string `json:"instance,omitempty"` // X-Served-By
	Term     uint64 `json:"term,omitempty"`     // X-Served-Term
}

// Failed reports whether the request got no answer, a 5xx, or, for a POST, an
// answer without its id.
func (r Record) Failed() bool {
	return r.Error != "" || r.Status == 0 || r.Status >= 500
}

func (t *tape) record(i int64) Record {
	s := t.at(i)
	r := Record{
		ID: t.config.id(i), Method: http.MethodGet, Target: t.config.Targets[s.target].Name,
		Sched: s.sched, Slow: s.slow(),
	}
	if s.flags&isPost != 0 {
		r.Method = http.MethodPost
	}
	if s.done.Load() == 0 {
		r.Error = "still in flight"
		return r
	}
	r.Status, r.Error = int(s.status), t.names.name(s.failure)
	r.Begin, r.End = s.begin, s.end
	r.Instance, r.Term = t.names.name(s.instance), s.term
	return r
}

func (c Config) id(i int64) string { return c.Prefix + "-" + strconv.FormatInt(i, 10) }

// Records calls yield with each request in the order of scheduled times, until
// it returns false.
func (g *Generator) Records(yield func(Record) bool) {
	for i := range g.tape.n.Load() {
		if !yield(g.tape.record(i)) {
			return
		}
	}
}

// WriteLog writes all records as JSON lines. After Run it is the whole load.
func (g *Generator) WriteLog(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(buffered)
	for record := range g.Records {
		if err := encoder.Encode(record); err != nil {
			return fmt.Errorf("write load log: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write load log: %w", err)
	}
	return nil
}
