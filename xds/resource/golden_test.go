package resource

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/<name>; go test -update rewrites it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

type builder func(Service) (*Resource, error)

func at(term uint64, f func(Service, uint64) (*Resource, error)) builder {
	return func(s Service) (*Resource, error) { return f(s, term) }
}

// render shows resources as JSON, with "silence" for none.
func render(t *testing.T, s Service, builders map[string]builder) []byte {
	t.Helper()
	all := map[string]any{}
	for name, f := range builders {
		r, err := f(s.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			all[name] = "silence"
			continue
		}
		m, err := r.Any.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		b, err := toJSON(m)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = map[string]any{"name": r.Name, "term": r.Term, "rank": r.Rank, "content": json.RawMessage(b)}
	}
	b, err := indent(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func service(p Protocol, route, certified uint64, endpoints ...Endpoint) Service {
	return Service{
		Name: "orders", Protocol: p, Listener: &Listener{Address: "127.0.0.1", Port: 8080},
		RouteTerm: route, CertifiedTerm: certified, OldestTerm: 1, Endpoints: endpoints,
	}
}

var (
	east    = Endpoint{Address: "10.0.0.1", Port: 80}
	west    = Endpoint{Address: "10.1.0.1", Port: 80}
	west2   = Endpoint{Address: "2001:db8::2", Port: 8080}
	parking = []Endpoint{{Address: "10.0.0.9", Port: 9000}, {Address: "10.0.0.8", Port: 9000}}
)

func TestGoldens(t *testing.T) {
	envoy := map[string]builder{
		"listener": EnvoyListener, "route": EnvoyRoute,
		"cluster@7": at(7, EnvoyCluster), "cluster@8": at(8, EnvoyCluster), "cluster@9": at(9, EnvoyCluster),
	}
	proxyless := map[string]builder{
		"listener": ProxylessListener, "route": ProxylessRoute, "cluster": ProxylessCluster,
		"endpoints": func(s Service) (*Resource, error) { return ProxylessEndpoints(s, parking) },
	}
	tuned := service(HTTP, 8, 8, west)
	tuned.HoldTimeout, tuned.ConnectTimeout, tuned.RequestTimeout = 4*time.Minute, time.Second, time.Minute
	tuned.Limits = Limits{Connections: 1, Pending: 2, Requests: 3, Retries: 4}
	tcp := service(TCP, 8, 8, west)
	tcp.IdleTimeout = time.Minute
	routeOnly := service(HTTP, 8, 8, west)
	routeOnly.Listener = nil
	for name, c := range map[string]struct {
		service  Service
		builders map[string]builder
	}{
		"http-serving":     {service(HTTP, 7, 7, east), envoy},
		"http-held":        {service(HTTP, 8, 7, east), envoy},
		"http-released":    {service(HTTP, 8, 8, west2, west, west), envoy},
		"http-fallback":    {service(HTTP, 8, 9, east), envoy},
		"http-unpromoted":  {service(HTTP, 8, 8), envoy},
		"http-first-hold":  {service(HTTP, 1, 0), envoy},
		"http-no-master":   {service(HTTP, 0, 0), envoy},
		"http-tuned":       {tuned, envoy},
		"http-route-only":  {routeOnly, envoy},
		"http2-serving":    {service(HTTP2, 7, 7, east), envoy},
		"tcp-serving":      {tcp, envoy},
		"tcp-held":         {service(TCP, 8, 7, east), envoy},
		"tcp-no-master":    {service(TCP, 0, 0), envoy},
		"grpc-serving":     {service(GRPC, 7, 7, east), envoy},
		"proxyless":        {service(GRPC, 7, 7, east), proxyless},
		"proxyless-held":   {service(GRPC, 8, 7, east), proxyless},
		"proxyless-none":   {service(GRPC, 0, 0), proxyless},
		"proxyless-return": {service(GRPC, 8, 9, east), proxyless},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.service.Validate(); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", render(t, c.service, c.builders))
		})
	}
}

// TestUncertifiedIsNeverNamed guards rule 7: whatever the state, no resource
// of a name above the certified term exists, and every name up to it is the
// same endpoints.
func TestUncertifiedIsNeverNamed(t *testing.T) {
	for certified := range uint64(4) {
		for route := range uint64(6) {
			s := service(HTTP, route, certified, east, west).WithDefaults()
			var first *Resource
			for term := range uint64(8) {
				r, err := EnvoyCluster(s, term)
				if err != nil {
					t.Fatal(err)
				}
				if released := term > 0 && term <= certified; (r != nil) != released {
					t.Fatalf("certified %d: name @%d: resource %v, want released %v", certified, term, r, released)
				}
				if r == nil {
					continue
				}
				if first == nil {
					first = r
				}
				// The two differ in the name only.
				a := bytes.ReplaceAll(r.Any.Value, []byte(r.Name), []byte(first.Name))
				if !bytes.Equal(a, first.Any.Value) || r.Term != certified {
					t.Fatalf("@%d is not the alias of the certified endpoints", term)
				}
			}
		}
	}
}

// TestVersionsOrder guards that versions carry the term: later states of a
// service rank at least as high, a hold below its release.
func TestVersionsOrder(t *testing.T) {
	var last uint64
	for _, s := range []Service{
		service(GRPC, 7, 7, east), service(GRPC, 8, 7, east), service(GRPC, 8, 8, west), service(GRPC, 9, 8, west), service(GRPC, 9, 10, east),
	} {
		r, err := ProxylessEndpoints(s.WithDefaults(), parking)
		if err != nil {
			t.Fatal(err)
		}
		term, rank, ok := ParseVersion(r.Version)
		if !ok || term != r.Term || rank != r.Rank {
			t.Fatalf("version %q parses to %d, %d, %v; want %d, %d", r.Version, term, rank, ok, r.Term, r.Rank)
		}
		if rank <= last {
			t.Fatalf("version %q does not rank above the one before", r.Version)
		}
		last = rank
	}
	for _, bad := range []string{"", "7", "-", "7-", "x-1", "0h-1", "-1-2", "99999999999999999999-1", "7-00000000000000000"} {
		if _, _, ok := ParseVersion(bad); ok {
			t.Errorf("version %q is accepted", bad)
		}
	}
}

// TestDeterministic guards that two gateways give a proxy the same version.
func TestDeterministic(t *testing.T) {
	a, _ := EnvoyCluster(service(HTTP, 8, 8, west, east, west).WithDefaults(), 8)
	b, _ := EnvoyCluster(service(HTTP, 8, 8, east, west).WithDefaults(), 8)
	if a.Version != b.Version || !proto.Equal(a.Any, b.Any) {
		t.Fatalf("the order of endpoints changes the version: %s, %s", a.Version, b.Version)
	}
}

func TestClusterNames(t *testing.T) {
	if name, term, ok := ParseClusterName(ClusterName("orders", 8)); name != "orders" || term != 8 || !ok {
		t.Fatalf("round trip: %q %d %v", name, term, ok)
	}
	for _, bad := range []string{"", "orders", "orders@", "orders@0", "orders@08", "orders@+8", "orders@8x", "@8", "Orders@8", "orders@99999999999999999999", strings.Repeat("x", 64) + "@8"} {
		if _, _, ok := ParseClusterName(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	for name, change := range map[string]func(*Service){
		"no name":        func(s *Service) { s.Name = "" },
		"an @":           func(s *Service) { s.Name = "orders@8" },
		"long name":      func(s *Service) { s.Name = strings.Repeat("x", MaxNameLength+1) },
		"protocol":       func(s *Service) { s.Protocol = "udp" },
		"host name":      func(s *Service) { s.Endpoints = []Endpoint{{"example.com", 80}} },
		"no port":        func(s *Service) { s.Endpoints = []Endpoint{{"10.0.0.1", 0}} },
		"listener port":  func(s *Service) { s.Listener = &Listener{"10.0.0.1", 70000} },
		"many endpoints": func(s *Service) { s.Endpoints = make([]Endpoint, MaxEndpoints+1) },
		"long hold":      func(s *Service) { s.HoldTimeout = MaxHoldTimeout + 1 },
		"long tcp hold":  func(s *Service) { s.Protocol, s.HoldTimeout = TCP, MaxTCPHold+1 },
		"negative":       func(s *Service) { s.ConnectTimeout = -1 },
		"huge term":      func(s *Service) { s.RouteTerm = 1<<62 + 1 },
	} {
		s := service(HTTP, 7, 7, east)
		change(&s)
		if err := s.Validate(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
