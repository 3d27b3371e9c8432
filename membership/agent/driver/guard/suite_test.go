package guard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
)

// TestDriver runs the suite of all drivers against a Go service behind a gate.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		gate := guard.New(guard.Options{})
		hold, entered := make(chan struct{}), make(chan struct{})
		server := httptest.NewServer(gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(entered)
				<-hold
			}
		})))
		t.Cleanup(server.Close)
		return drivertest.Subject{
			Driver: gate,
			Serves: func() bool { return ask(t, server.URL) },
			Busy: func(t *testing.T) func() {
				done := make(chan struct{})
				go func() {
					defer close(done)
					ask(t, server.URL+"/slow")
				}()
				<-entered
				return func() { close(hold); <-done }
			},
		}
	})
}

// ask reports whether a request is served.
func ask(t *testing.T, url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
