package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/rpc"
)

type callerKey struct{}

// callerOf returns who asked, "operator/alice" or "gateway/east/gw-1".
func callerOf(ctx context.Context) string {
	p, _ := ctx.Value(callerKey{}).(rpc.Principal)
	return strings.TrimPrefix(p.URI().Path, "/")
}

// openPaths are what every certificate of the cluster may see.
var openPaths = map[string]bool{"/v1/healthz": true, "/v1/readyz": true}

// admit lets in whom the certificate allows, and at most so many at once.
func (s *server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.principal(r)
		if err != nil {
			writeProblem(w, newProblem(CodeUntrusted, err.Error()))
			return
		}
		if who.Role != rpc.RoleOperator && who.Role != rpc.RoleGateway && !openPaths[r.URL.Path] {
			writeProblem(w, newProblem(CodeUntrusted, fmt.Sprintf("%s may see health only: this needs an operator's or a gateway's certificate", who)))
			return
		}
		leave, ok := s.slots.enter()
		if !ok {
			w.Header().Set("Retry-After", "1")
			writeProblem(w, newProblem(CodeBusy, fmt.Sprintf("this gateway answers %d requests already", MaxRequests)))
			return
		}
		defer leave()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	})
}

// principal returns who is at the other end, of this cluster.
func (s *server) principal(r *http.Request) (rpc.Principal, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return rpc.Principal{}, errors.New("no client certificate")
	}
	p, err := rpc.PrincipalOf(r.TLS.VerifiedChains[0][0])
	if err == nil && p.Cluster != s.options.Cluster {
		err = fmt.Errorf("certificate of cluster %q, this is %q", p.Cluster, s.options.Cluster)
	}
	return p, err
}

// survive answers a panic with a problem where nothing was sent yet, so that
// one bad request costs nobody else anything.
func (s *server) survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it by identity too
				panic(cause)
			}
			s.options.Log.Error().Str("method", r.Method).Str("path", r.URL.Path).Interface("panic", cause).Bytes("stack", debug.Stack()).Msg("request failed")
			writeProblem(w, newProblem(CodeInternal, "the gateway failed on this request"))
		}()
		next.ServeHTTP(w, r)
	})
}

// receive reads a POST's body whole, bounded in size and time, so that no
// handler waits for a slow sender.
func receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(BodyTimeout)) // a writer without deadlines only loses the bound
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		_ = control.SetReadDeadline(time.Time{})
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			writeProblem(w, newProblem(CodeTooLarge, fmt.Sprintf("the body is larger than %d bytes", MaxBody)))
			return
		case err != nil:
			p := newProblem(CodeInvalid, fmt.Sprintf("read body: %v", err))
			p.Status = http.StatusRequestTimeout
			writeProblem(w, p)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// writeProblem answers with a problem. The answer of a request that cannot be
// written any more is lost, as always with HTTP.
func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
