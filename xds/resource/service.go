// Package resource translates the desired state of a service into what
// proxies understand: Envoy resources, the proxyless gRPC profile of them,
// and the bootstrap files that point a proxy at its gateways.
//
// It guarantees that no resource names endpoints of a term that is not
// certified, that every resource's version carries a term that only grows
// with the service's, and that the same input gives the same bytes. It is
// pure: no clock, goroutine, file or socket. It does not decide when a term
// is certified, nor who is told; that is xds/control and the gateway.
package resource

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Protocol is what a service speaks with its callers.
type Protocol string

// The protocols a service can have.
const (
	HTTP  Protocol = "http"  // HTTP/1.1 to the instances; callers may use HTTP/1.1 or HTTP/2
	HTTP2 Protocol = "http2" // HTTP/2 without TLS to the instances
	GRPC  Protocol = "grpc"  // as HTTP2, and offered to proxyless gRPC clients
	TCP   Protocol = "tcp"   // connections, no requests
)

// Headers between proxies and instances.
const (
	// TermHeader carries the term of the route that a request took. The proxy
	// overwrites what a client sends.
	TermHeader = "x-signalbox-term"
	// NotMasterHeader marks a 503 that was answered before anything was
	// processed, so that it is safe to send the request again, a POST too.
	NotMasterHeader = "x-signalbox-not-master"
)

// Bounds of a Service. Beyond them Validate refuses.
const (
	MaxNameLength  = 63
	MaxEndpoints   = 1000
	MaxHoldTimeout = 10 * time.Minute
	// MaxTCPHold is how long Envoy itself holds a TCP connection; it does not
	// implement the timeout field of tcp_proxy's on_demand (Envoy 1.40).
	MaxTCPHold = 60 * time.Second
)

// Defaults of the fields that may be left zero.
const (
	DefaultHoldTimeout    = 30 * time.Second
	DefaultConnectTimeout = 5 * time.Second
	DefaultDrainTimeout   = 5 * time.Second
	DefaultConnections    = 1024
	DefaultRequests       = 65536
)

// ErrInvalid is returned when a service cannot be translated. It is wrapped
// with the field and what was expected of it.
var ErrInvalid = errors.New("invalid service")

// Endpoint is where an instance serves: an IP address and a port.
type Endpoint struct {
	Address string
	Port    uint32
}

// Listener is where a proxy accepts a service's callers.
type Listener struct {
	Address string
	Port    uint32
}

// Limits are a cluster's circuit breakers, each per proxy and service. They
// are sized for the herd at a release: everything that was parked arrives at
// once, and a request over a limit fails.
type Limits struct {
	Connections uint32 // to all instances together
	Pending     uint32 // requests that wait for a connection
	Requests    uint32 // in flight (HTTP/2)
	Retries     uint32 // in flight retries
}

// Service is the desired state of one service as proxies should see it.
type Service struct {
	Name     string
	Protocol Protocol
	// Listener is nil for a service that proxies reach through listeners of
	// their own (route only) or that only proxyless clients call.
	Listener *Listener

	// RouteTerm is the term that routes point at. Above CertifiedTerm it
	// means hold: the cluster it names does not exist yet. 0 means that
	// nobody ever was master: HTTP callers get 503 at once, TCP has no
	// listener.
	RouteTerm uint64
	// CertifiedTerm is the newest certified term; every name up to it is an
	// alias of Endpoints. 0 means none: all traffic is held.
	CertifiedTerm uint64
	// OldestTerm is the lowest term whose name proxies should still have.
	// Lower names are removed from a proxy once its routes are past them.
	OldestTerm uint64
	// Endpoints are the promoted instances of CertifiedTerm. While empty,
	// nothing is released: names that were never answered stay held.
	Endpoints []Endpoint

	// HoldTimeout is how long a proxy parks a request. It must exceed the
	// longest handover with its way back.
	HoldTimeout time.Duration
	// ConnectTimeout bounds one connection attempt to an instance.
	ConnectTimeout time.Duration
	// RequestTimeout bounds a request from its end of stream; 0 is no bound.
	RequestTimeout time.Duration
	// IdleTimeout closes idle TCP connections; 0 is Envoy's default, 1 hour.
	IdleTimeout time.Duration
	// DrainTimeout is the grace that HTTP connections of a replaced listener get.
	DrainTimeout time.Duration
	Limits       Limits
}

// WithDefaults returns a copy with every zero field that has a default set,
// and the endpoints sorted and free of duplicates.
func (s Service) WithDefaults() Service {
	s.HoldTimeout = orDefault(s.HoldTimeout, DefaultHoldTimeout)
	s.ConnectTimeout = orDefault(s.ConnectTimeout, DefaultConnectTimeout)
	s.DrainTimeout = orDefault(s.DrainTimeout, DefaultDrainTimeout)
	s.Limits.Connections = orDefault(s.Limits.Connections, DefaultConnections)
	s.Limits.Pending = orDefault(s.Limits.Pending, DefaultRequests)
	s.Limits.Requests = orDefault(s.Limits.Requests, DefaultRequests)
	s.Limits.Retries = orDefault(s.Limits.Retries, DefaultRequests)
	s.Endpoints = normalize(s.Endpoints)
	if s.Listener != nil {
		l := *s.Listener
		s.Listener = &l
	}
	return s
}

// normalize sorts and compacts, so that two gateways that learned of the same
// endpoints in another order build the same bytes.
func normalize(endpoints []Endpoint) []Endpoint {
	sorted := slices.SortedFunc(slices.Values(endpoints), func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(sorted)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Released says whether the name of this term resolves to endpoints.
func (s Service) Released(term uint64) bool {
	return term > 0 && term <= s.CertifiedTerm && len(s.Endpoints) > 0
}

// Validate returns ErrInvalid, wrapped with the field and what was expected.
func (s Service) Validate() error {
	if err := ValidateName(s.Name); err != nil {
		return err
	}
	if !slices.Contains([]Protocol{HTTP, HTTP2, GRPC, TCP}, s.Protocol) {
		return fmt.Errorf("%w: %s: protocol %q: want http, http2, grpc or tcp", ErrInvalid, s.Name, s.Protocol)
	}
	if s.Listener != nil {
		if err := validateAddress(s.Listener.Address, s.Listener.Port); err != nil {
			return fmt.Errorf("%w: %s: listener: %w", ErrInvalid, s.Name, err)
		}
	}
	if max(s.RouteTerm, s.CertifiedTerm, s.OldestTerm) > maxTerm {
		return fmt.Errorf("%w: %s: term above 2^62", ErrInvalid, s.Name)
	}
	if len(s.Endpoints) > MaxEndpoints {
		return fmt.Errorf("%w: %s: %d endpoints: want at most %d", ErrInvalid, s.Name, len(s.Endpoints), MaxEndpoints)
	}
	for _, e := range s.Endpoints {
		if err := validateAddress(e.Address, e.Port); err != nil {
			return fmt.Errorf("%w: %s: endpoint: %w", ErrInvalid, s.Name, err)
		}
	}
	return s.validateTimes()
}

func (s Service) validateTimes() error {
	if s.HoldTimeout < 0 || s.HoldTimeout > MaxHoldTimeout {
		return fmt.Errorf("%w: %s: hold timeout %s: want at most %s", ErrInvalid, s.Name, s.HoldTimeout, MaxHoldTimeout)
	}
	if s.Protocol == TCP && s.HoldTimeout > MaxTCPHold {
		return fmt.Errorf("%w: %s: hold timeout %s: want at most %s for tcp, Envoy holds connections no longer",
			ErrInvalid, s.Name, s.HoldTimeout, MaxTCPHold)
	}
	for name, d := range map[string]time.Duration{
		"connect timeout": s.ConnectTimeout, "request timeout": s.RequestTimeout,
		"idle timeout": s.IdleTimeout, "drain timeout": s.DrainTimeout,
	} {
		if d < 0 || d > 24*time.Hour {
			return fmt.Errorf("%w: %s: %s %s: want 0s to 24h", ErrInvalid, s.Name, name, d)
		}
	}
	return nil
}

// ValidateName checks a service's name: lowercase letters, digits, '-', '.'
// and '_', at most MaxNameLength. '@' separates a name from its term.
func ValidateName(name string) error {
	if name == "" || len(name) > MaxNameLength {
		return fmt.Errorf("%w: name %.70q: want 1 to %d characters", ErrInvalid, name, MaxNameLength)
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-._", r) {
			return fmt.Errorf("%w: name %q: want lowercase letters, digits, '-', '.' or '_'", ErrInvalid, name)
		}
	}
	return nil
}

func validateAddress(address string, port uint32) error {
	if _, err := netip.ParseAddr(address); err != nil {
		return fmt.Errorf("address %.64q: want an IP address", address)
	}
	if port == 0 || port > 65535 {
		return fmt.Errorf("port %d: want 1 to 65535", port)
	}
	return nil
}

// ClusterName is the name of a service's cluster at a term, for example orders@8.
func ClusterName(service string, term uint64) string {
	return service + "@" + strconv.FormatUint(term, 10)
}

// ParseClusterName splits what ClusterName made. Only the canonical form is
// accepted, so that one cluster has one name.
func ParseClusterName(name string) (service string, term uint64, ok bool) {
	service, digits, found := strings.Cut(name, "@")
	if !found || len(digits) == 0 || digits[0] < '1' || digits[0] > '9' {
		return "", 0, false
	}
	term, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || ValidateName(service) != nil {
		return "", 0, false
	}
	return service, term, true
}
