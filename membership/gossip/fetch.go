package gossip

import (
	"sync"
	"time"
)

// fetcher asks holders for wanted documents, one holder after the other. What
// nobody gave is forgotten: the next push-pull announces it again.
type fetcher struct {
	timeout time.Duration
	ask     func(h Hash, holder string, done func(error))

	mu     sync.Mutex
	wants  map[Hash]*want
	closed bool
}

type want struct {
	holders []string // the first one is being asked
	known   []string // everybody heard of, to add nobody twice
	timer   *time.Timer
	paused  bool // refused by ValidateDocument: not asked for meanwhile
}

// refusedPause is how long a document that ValidateDocument refused is not
// asked for again, as a factor of the fetch timeout.
const refusedPause = 5

func newFetcher(timeout time.Duration, ask func(Hash, string, func(error))) *fetcher {
	return &fetcher{timeout: timeout, ask: ask, wants: make(map[Hash]*want)}
}

// want notes that a holder has the document. It returns false when too many
// documents are wanted already.
func (f *fetcher) want(h Hash, holder string) bool {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return true
	}
	w, ok := f.wants[h]
	if ok {
		defer f.mu.Unlock()
		w.add(holder)
		return true
	}
	if len(f.wants) >= maxWants {
		f.mu.Unlock()
		return false
	}
	w = &want{}
	w.add(holder)
	f.wants[h] = w
	w.timer = time.AfterFunc(f.timeout, func() { f.next(h, w, holder) })
	f.mu.Unlock()
	f.request(h, w, holder)
	return true
}

func (w *want) add(holder string) {
	for _, k := range w.known {
		if k == holder {
			return
		}
	}
	if len(w.known) < maxHolders {
		w.known = append(w.known, holder)
		w.holders = append(w.holders, holder)
	}
}

// request runs without the lock: ask may call back at once.
func (f *fetcher) request(h Hash, w *want, holder string) {
	f.ask(h, holder, func(err error) {
		if err != nil {
			f.next(h, w, holder)
		}
	})
}

// next gives up on one holder and asks another one.
func (f *fetcher) next(h Hash, w *want, failed string) {
	f.mu.Lock()
	if f.closed || f.wants[h] != w || w.paused || len(w.holders) == 0 || w.holders[0] != failed {
		f.mu.Unlock()
		return
	}
	w.timer.Stop()
	w.holders = w.holders[1:]
	if len(w.holders) == 0 {
		delete(f.wants, h)
		f.mu.Unlock()
		return
	}
	holder := w.holders[0]
	w.timer = time.AfterFunc(f.timeout, func() { f.next(h, w, holder) })
	f.mu.Unlock()
	f.request(h, w, holder)
}

// settle ends the search for a document.
func (f *fetcher) settle(h Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(h)
}

func (f *fetcher) remove(h Hash) {
	if w, ok := f.wants[h]; ok {
		w.timer.Stop()
		delete(f.wants, h)
	}
}

// pause keeps a refused document from being asked for at once again.
func (f *fetcher) pause(h Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.wants[h]; !ok {
		return // not asked for: it must not take up room
	}
	f.remove(h)
	w := &want{paused: true}
	f.wants[h] = w
	w.timer = time.AfterFunc(refusedPause*f.timeout, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.wants[h] == w {
			delete(f.wants, h)
		}
	})
}

func (f *fetcher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for h := range f.wants {
		f.remove(h)
	}
}
