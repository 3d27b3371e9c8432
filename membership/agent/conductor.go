package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

const (
	// pollEvery is how often the driver is asked how the instance is: an
	// instance that was started again is noticed within it.
	pollEvery = 250 * time.Millisecond
	// lookAfter is how long after an order was carried out the instance is asked
	// how it is: whoever waits for the order's outcome is not kept from it.
	lookAfter = 50 * time.Millisecond
	// readyEvery counts the polls between two looks at the readiness.
	readyEvery = 4
	// askTimeout bounds one look at the instance.
	askTimeout = time.Second
	// promoteTimeout bounds one attempt to promote.
	promoteTimeout = 10 * time.Second
	// quietEvery and quietPolls: a driver that cannot tell when new work stops
	// coming counts as quiet when nothing was in flight so many polls in a row.
	quietEvery = 50 * time.Millisecond
	quietPolls = 10
)

// order is what the core wants of the driver; one of the pointers is set.
type order struct {
	op       uint64
	stepDown *driver.StepDown
	promote  *driver.Promotion
	prepare  *driver.Preparation
	follow   *driver.Follow
}

// conductor carries the core's orders to the driver, one at a time and the
// newest only, and watches the instance.
type conductor struct {
	r      *runner
	orders chan order     // holds the newest that nobody took yet
	leases chan giveLease // the newest that nobody took yet
	kick   chan struct{}  // look at the instance now
	done   atomic.Uint64  // the last order that was carried out
}

func newConductor(r *runner) *conductor {
	return &conductor{r: r, orders: make(chan order, 1), leases: make(chan giveLease, 1), kick: make(chan struct{}, 1)}
}

// order replaces what waits. Only the core's goroutine calls it.
func (c *conductor) order(o order) {
	select {
	case <-c.orders: // never begun, and not wanted any more
	default:
	}
	c.orders <- o
}

// carryOut runs orders until ctx ends. A newer order cancels the one that runs.
func (c *conductor) carryOut(ctx context.Context) {
	var o order
	select {
	case o = <-c.orders:
	case <-ctx.Done():
		return
	}
	for {
		call, cancel := context.WithCancel(ctx)
		result := make(chan event, 1)
		go func() { result <- c.call(call, o) }()
		select {
		case ev := <-result:
			cancel()
			if _, order := ev.(drove); order {
				c.done.Store(o.op)
			}
			c.r.post(ctx, ev)
			time.AfterFunc(lookAfter, c.look)
			select {
			case o = <-c.orders:
			case <-ctx.Done():
				return
			}
		case next := <-c.orders:
			cancel()
			<-result // of an order that nobody waits for any more
			o = next
		case <-ctx.Done():
			cancel()
			<-result // of an order that nobody waits for any more
			return
		}
	}
}

func (c *conductor) call(ctx context.Context, o order) event {
	began := time.Now()
	switch {
	case o.prepare != nil:
		ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
		defer cancel()
		return helped{op: o.op, err: c.r.driver.(driver.Preparer).Prepare(ctx, *o.prepare)}
	case o.follow != nil:
		return helped{op: o.op, err: c.r.driver.(driver.Follower).Follow(ctx, *o.follow)}
	}
	if o.stepDown != nil {
		position, err := c.r.driver.StepDown(ctx, *o.stepDown)
		if err == nil {
			c.r.agent.metrics.drained.Observe(time.Since(began).Seconds())
		}
		return drove{op: o.op, position: position, err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	err := c.r.driver.Promote(ctx, *o.promote)
	if err == nil {
		c.r.agent.metrics.promoted.Observe(time.Since(began).Seconds())
	}
	return drove{op: o.op, err: err}
}

// lease replaces what waits. Only the core's goroutine calls it.
func (c *conductor) lease(e giveLease) {
	select {
	case <-c.leases:
	default:
	}
	c.leases <- e
}

// giveLeases tells the driver until when the instance may serve, beside whatever
// else it is asked, until ctx ends.
func (c *conductor) giveLeases(ctx context.Context) {
	for {
		select {
		case e := <-c.leases:
			c.r.post(ctx, leaseGiven{op: e.op, err: c.giveLease(ctx, e)})
		case <-ctx.Done():
			return
		}
	}
}

func (c *conductor) giveLease(ctx context.Context, e giveLease) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := c.r.driver.(driver.Leaser).Lease(ctx, e.order)
	if err == nil {
		c.r.agent.metrics.lease.WithLabelValues(string(c.r.in.Service), c.r.in.Name).Set(float64(e.order.Deadline.UnixNano()) / 1e9)
	}
	return err
}

func (c *conductor) look() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// poll asks the driver how the instance is until ctx ends.
func (c *conductor) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var readiness driver.Readiness
	for n := 0; ; n++ {
		report := reported{op: c.done.Load()}
		report.status, report.err = c.ask(ctx)
		if report.err == nil && (n%readyEvery == 0 || !readiness.Ready) {
			readiness, report.err = c.ready(ctx)
		}
		report.readiness = readiness
		if report.err != nil {
			readiness = driver.Readiness{}
		}
		c.r.post(ctx, report)
		select {
		case <-tick.C:
		case <-c.kick:
		case <-ctx.Done():
			return
		}
	}
}

func (c *conductor) ask(ctx context.Context) (driver.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.r.driver.Status(ctx)
}

func (c *conductor) ready(ctx context.Context) (driver.Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := c.r.driver.Ready(ctx)
	if known, ok := c.r.driver.(driver.Reckoner); ok && err == nil {
		// An instance that cannot say what would be lost may still take over.
		r.Expected, _ = known.Expect(ctx)
		r.Lost = known.Lost()
	}
	return r, err
}

// quiet posts a quieted event when no new work comes, or after most. It ends
// with ctx at the latest; nobody has to wait for it.
func (c *conductor) quiet(ctx context.Context, e awaitQuiet) {
	go func() {
		if q, ok := c.r.driver.(driver.Quieter); ok {
			q.Quiet(ctx, e.idle, e.most)
		} else {
			c.watchQuiet(ctx, e.most)
		}
		c.r.post(ctx, quieted{})
	}()
}

func (c *conductor) watchQuiet(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(quietEvery)
	defer tick.Stop()
	for idle := 0; idle < quietPolls; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if status, err := c.ask(ctx); err == nil && status.InFlight == 0 {
			idle++
		} else {
			idle = 0
		}
	}
}
