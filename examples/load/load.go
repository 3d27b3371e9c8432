// Package load is an open-loop HTTP load generator: requests start when they
// are due, however slow the answers, and latency counts from when a request
// was due, so that a pause shows in full (no coordinated omission).
//
// All times are raw CLOCK_MONOTONIC in nanoseconds, comparable with those of
// other processes on the machine. Go's HTTP client repeats a GET whose reused
// connection was closed before any answer, as most clients do; a POST that
// may have been sent is never repeated.
package load

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Config.
const (
	MaxRate        = 100_000
	MaxTargets     = 64
	MaxConnections = 10_000
	MaxInFlight    = 100_000
	MaxRecords     = 16 << 20 // 48 bytes each
	MaxBody        = 64 << 10 // bytes read of an answer
)

// Protocol is what is spoken to the targets.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = "http1"
	H2C   Protocol = "h2c" // HTTP/2 without TLS
)

// Target is where requests go; the rate is divided evenly between targets.
type Target struct {
	Name string // as in the log, for example "east-1"
	URL  string // for example http://127.0.0.1:8080
}

// Config says what load to make. Default returns one with all defaults.
type Config struct {
	Targets  []Target
	Rate     int           // requests per second, over all targets
	Duration time.Duration // 0: until the context ends
	Prefix   string        // of request ids; must differ between generators whose logs meet
	Seed     uint64        // of the mix

	PostFraction float64       // of requests that write an order
	SlowFraction float64       // of requests that ask for a slow answer
	SlowFor      time.Duration // how slow

	Protocol    Protocol
	Connections int           // most per target
	InFlight    int           // most in all; what is due beyond it fails without being sent
	Timeout     time.Duration // of one request
	Grace       time.Duration // how long requests in flight may take after the end
}

// Default returns the demo's mix against targets at rate requests per second.
func Default(rate int, targets ...Target) Config {
	return Config{
		Targets: targets, Rate: rate, Prefix: "r" + strconv.FormatInt(Now(), 36),
		PostFraction: 0.5, SlowFraction: 0.01, SlowFor: 300 * time.Millisecond,
		Protocol: HTTP1, Connections: 1024, InFlight: 20_000,
		Timeout: 30 * time.Second, Grace: 30 * time.Second,
	}
}

func (c Config) validate() error {
	fraction := func(f float64) bool { return f >= 0 && f <= 1 }
	switch {
	case len(c.Targets) == 0 || len(c.Targets) > MaxTargets:
		return fmt.Errorf("%d targets: expected 1 to %d", len(c.Targets), MaxTargets)
	case c.Rate < 1 || c.Rate > MaxRate:
		return fmt.Errorf("rate %d: expected 1 to %d requests per second", c.Rate, MaxRate)
	case c.Prefix == "":
		return errors.New("prefix is empty")
	case !fraction(c.PostFraction) || !fraction(c.SlowFraction):
		return errors.New("fractions lie between 0 and 1")
	case c.Protocol != HTTP1 && c.Protocol != H2C:
		return fmt.Errorf("protocol %q: expected %s or %s", c.Protocol, HTTP1, H2C)
	case c.Connections < 1 || c.Connections > MaxConnections:
		return fmt.Errorf("%d connections: expected 1 to %d", c.Connections, MaxConnections)
	case c.InFlight < 1 || c.InFlight > MaxInFlight:
		return fmt.Errorf("%d in flight: expected 1 to %d", c.InFlight, MaxInFlight)
	case c.Duration < 0 || c.SlowFor < 0 || c.Grace < 0 || c.Timeout <= 0:
		return errors.New("durations are not negative, and timeout is not zero")
	}
	return nil
}

// Generator makes one load and remembers every request of it.
type Generator struct {
	config    Config
	targets   []target
	transport *http.Transport
	tape      *tape
	started   atomic.Bool
	flying    sync.WaitGroup
	inFlight  atomic.Int64
	answered  atomic.Int64
	failed    atomic.Int64
}

type target struct {
	base    url.URL
	written atomic.Int64 // newest order answered, plus 1
}

// New checks config. Nothing is sent before Run.
func New(config Config) (*Generator, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure load: %w", err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(config.Protocol == HTTP1)
	protocols.SetUnencryptedHTTP2(config.Protocol == H2C)
	g := &Generator{
		config:  config,
		targets: make([]target, len(config.Targets)),
		tape:    newTape(config),
		transport: &http.Transport{
			Protocols: protocols, DisableCompression: true,
			MaxConnsPerHost: config.Connections, MaxIdleConnsPerHost: config.Connections,
			IdleConnTimeout: 90 * time.Second,
		},
	}
	for i, t := range config.Targets {
		base, err := url.Parse(strings.TrimSuffix(t.URL, "/"))
		if err != nil || base.Scheme != "http" || base.Host == "" {
			return nil, fmt.Errorf("configure load: target %q: expected http://host:port", t.URL)
		}
		g.targets[i].base = *base
	}
	return g, nil
}

// Stats counts what happened so far.
type Stats struct {
	Scheduled, Answered, Failed, InFlight int64
}

// Stats may be called at any time; its numbers are not of one instant.
func (g *Generator) Stats() Stats {
	return Stats{
		Scheduled: g.tape.n.Load(), Answered: g.answered.Load(),
		Failed: g.failed.Load(), InFlight: g.inFlight.Load(),
	}
}
