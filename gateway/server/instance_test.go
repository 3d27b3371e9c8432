package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// judge sees every instance open and close: never two data centers at once, and
// terms only grow. It knows nothing of what Signalbox thinks.
type judge struct {
	t testing.TB

	mu   sync.Mutex
	open map[string]opening
	last signalbox.Term
}

type opening struct {
	dc   signalbox.DataCenter
	term signalbox.Term
	// until is the end of its lease by the boot-time clock; zero: it needs none.
	until time.Duration
}

// over is whether its lease has run out: it closed then, be the timer that says so
// late or not.
func (o opening) over() bool { return o.until != 0 && driver.BootTime() >= o.until }

func (j *judge) opened(name string, dc signalbox.DataCenter, term signalbox.Term) {
	j.openedUntil(name, dc, term, 0)
}

func (j *judge) openedUntil(name string, dc signalbox.DataCenter, term signalbox.Term, until time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for other, o := range j.open {
		if o.over() {
			delete(j.open, other)
		} else if o.dc != dc {
			j.t.Errorf("two masters: %s opens in %s at term %d while %s is open in %s at term %d", name, dc, term, other, o.dc, o.term)
		}
	}
	if o, ok := j.open[name]; ok && o.term > term {
		j.t.Errorf("the term of %s went from %d to %d", name, o.term, term)
	}
	if term < j.last && len(j.open) == 0 {
		j.t.Errorf("%s opens at term %d after term %d was served", name, term, j.last)
	}
	j.last = max(j.last, term)
	j.open[name] = opening{dc, term, until}
}

// renewed: an instance that is open may be so for longer.
func (j *judge) renewed(name string, until time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if o, ok := j.open[name]; ok {
		o.until = until
		j.open[name] = o
	}
}

func (j *judge) closed(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.open, name)
}

// instance is a process of the service, made up: it does what it is told unless
// a test makes it stubborn.
type instance struct {
	judge   *judge
	name    string
	dc      signalbox.DataCenter
	address string

	mu       sync.Mutex
	master   bool
	term     signalbox.Term
	run      int
	inFlight uint64 // drains wait for it
	streams  uint64 // and for these, as the policy has it
	refuses  bool   // promotions fail
	notReady bool
	leaving  bool
	drains   int
	changed  chan struct{}

	// until is the end of the lease of a term, by the boot-time clock.
	until  time.Duration
	leased signalbox.Term
}

var instancePort atomic.Int32

func newInstance(j *judge, name string, dc signalbox.DataCenter) *instance {
	return &instance{
		judge: j, name: name, dc: dc, run: 1, changed: make(chan struct{}),
		address: fmt.Sprintf("127.0.0.1:%d", 1000+instancePort.Add(1)),
	}
}

// set changes the instance.
func (i *instance) set(f func(*instance)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *instance) serves() (signalbox.Term, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.term, i.master
}

// draining reports whether it was told to step down and has something in flight.
func (i *instance) draining() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.drains > 0 && i.inFlight+i.streams > 0
}

// crash ends the process; it comes back closed.
func (i *instance) crash() {
	i.set(func(i *instance) { i.master, i.inFlight, i.streams, i.leased, i.run = false, 0, 0, 0, i.run+1 })
	i.judge.closed(i.name)
}

func (i *instance) StepDown(ctx context.Context, o driver.StepDown) (driver.Position, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drains++
	defer func() { i.drains-- }()
	for i.inFlight+i.streams > 0 {
		if o.Streams == signalbox.StreamsCut {
			i.streams = 0
			continue
		}
		if o.Streams == signalbox.StreamsAbort && i.inFlight == 0 {
			return nil, driver.ErrStreams
		}
		changed := i.changed
		i.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		i.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	i.master = false
	i.judge.closed(i.name)
	return nil, nil
}

func (i *instance) Promote(_ context.Context, o driver.Promotion) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refuses {
		return errors.New("the disk is full")
	}
	if o.Leased && (i.leased != o.Term || driver.BootTime() >= i.until) {
		return errors.New("no lease of this term came since the start")
	}
	until := time.Duration(0)
	if o.Leased {
		until = i.until
	}
	i.judge.openedUntil(i.name, i.dc, o.Term, until)
	i.master, i.term = true, o.Term
	return nil
}

// Lease implements driver.Leaser: the instance closes by itself when its lease runs
// out, whoever is dead.
func (i *instance) Lease(_ context.Context, o driver.LeaseOrder) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closeLate()
	if o.Term != i.leased || o.Boot > i.until {
		i.leased, i.until = o.Term, o.Boot
		time.AfterFunc(o.Boot-driver.BootTime(), i.expire)
		if i.master && i.term == o.Term {
			i.judge.renewed(i.name, o.Boot)
		}
	}
	return nil
}

func (i *instance) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closeLate()
}

// closeLate closes an instance whose lease has run out: what is renewed after that
// opens nothing.
func (i *instance) closeLate() {
	if i.master && i.leased == i.term && driver.BootTime() >= i.until {
		i.master = false
		i.judge.closed(i.name)
	}
}

func (i *instance) Ready(context.Context) (driver.Readiness, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.notReady {
		return driver.Readiness{Problem: "the cache is cold"}, nil
	}
	return driver.Readiness{Ready: true}, nil
}

func (i *instance) Status(context.Context) (driver.Status, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return driver.Status{Master: i.master, Term: i.term, InFlight: i.inFlight, Run: fmt.Sprint(i.run), Leaving: i.leaving}, nil
}

func (i *instance) Stop(context.Context) error { return nil }
