package execdriver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	httpdriver "github.com/signalbox-io/signalbox/membership/agent/driver/http"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// TestMain has the test's own program be the warden, the services and the
// commands as well.
func TestMain(m *testing.M) {
	// Or each command would take another second under the race detector.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		os.Exit(1)
	}
	if len(os.Args) < 3 {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	case "warden":
		err = warden.Run(os.Args[2])
	case "plain":
		err = plain(os.Args[2])
	case "gated":
		err = http.ListenAndServe(os.Args[2], newService())
	case "probe":
		if _, err := net.Dial("tcp", os.Args[2]); err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	case "order":
		os.Exit(command(os.Args[2]))
	default:
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// plain is a service that knows nothing of Signalbox: it serves while it runs
// and ends in order after SIGTERM.
func plain(address string) error {
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
	})}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	return server.ListenAndServe()
}

// service is one that can be master or standby, and is told so over HTTP. Its
// position is the last term that it was master of.
type service struct {
	gate    *guard.Gate
	mux     *http.ServeMux
	hold    chan struct{}
	entered chan struct{}
	spoiled atomic.Bool
	was     signalbox.Term
	comes   []driver.Peer // what the newest step-down said
}

func newService() *service {
	s := &service{gate: guard.New(guard.Options{}), mux: http.NewServeMux(), hold: make(chan struct{}), entered: make(chan struct{})}
	s.mux.Handle("/", s.gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(s.entered)
			<-s.hold
		}
	})))
	s.mux.HandleFunc("/signalbox/", s.contract)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *service) contract(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Term     signalbox.Term
		Position string
		Incoming []driver.Peer
	}
	_ = json.NewDecoder(r.Body).Decode(&o)
	status, _ := s.gate.Status(r.Context())
	reply := map[string]any{"ready": !s.spoiled.Load(), "master": status.Master, "term": status.Term, "in_flight": status.InFlight}
	var err error
	switch r.URL.Path {
	case "/signalbox/step-down":
		s.comes = o.Incoming
		_, err = s.gate.StepDown(r.Context(), driver.StepDown{Term: o.Term})
		if status.Master && err == nil {
			s.was = status.Term
		}
		if s.was != 0 {
			reply["position"] = fmt.Sprint("after term ", s.was)
		}
		reply["drained"] = err == nil
	case "/signalbox/promote":
		if o.Position == "beyond" {
			err = errors.New("the data has not come that far")
		} else {
			err = s.gate.Promote(r.Context(), driver.Promotion{Term: o.Term})
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		reply["detail"] = err.Error()
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// command is what a script would be: it tells a service what it is ordered.
func command(base string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d, err := httpdriver.New(base)
	if err != nil {
		return 2
	}
	n, _ := strconv.ParseUint(os.Getenv("SIGNALBOX_TERM"), 10, 64)
	term := signalbox.Term(n)
	deadline, _ := time.Parse(time.RFC3339Nano, os.Getenv("SIGNALBOX_DEADLINE"))
	switch os.Getenv("SIGNALBOX_ACTION") {
	case "status":
		var s driver.Status
		if s, err = d.Status(ctx); err == nil {
			fmt.Printf("in-flight=%d\n", s.InFlight)
			if !s.Master {
				return 3
			}
		}
	case "ready":
		var r driver.Readiness
		if r, err = d.Ready(ctx); err == nil && !r.Ready {
			fmt.Println("problem=cache-cold|the cache is cold|warm it")
			fmt.Println("it is not ready")
			return 1
		}
	case "step-down":
		var p driver.Position
		var comes []driver.Peer
		for _, pair := range strings.Fields(os.Getenv("SIGNALBOX_INCOMING")) {
			name, address, _ := strings.Cut(pair, "=")
			comes = append(comes, driver.Peer{Name: name, Address: address})
		}
		if p, err = d.StepDown(ctx, driver.StepDown{Term: term, Deadline: deadline, Incoming: comes}); err == nil {
			fmt.Println("drained")
			fmt.Println("position=" + p.String())
		}
	case "promote":
		err = d.Promote(ctx, driver.Promotion{Term: term, Position: driver.Position(os.Getenv("SIGNALBOX_POSITION"))})
	case "prepare", "follow":
		if os.Getenv("SIGNALBOX_ROLE") == "" && os.Getenv("SIGNALBOX_MASTER_ADDRESS") == "" {
			return 1
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// served reports whether a request is served; a service that is not there serves
// nobody.
func served(url string) bool {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
