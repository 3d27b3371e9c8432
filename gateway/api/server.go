package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Options are what New needs. All of them are required but Log and Registerer.
type Options struct {
	// Cluster is whose certificates are accepted.
	Cluster   string
	Viewer    Viewer
	Historian Historian
	Conductor Conductor
	Governor  Governor
	Surveyor  Surveyor
	Rescuer   Rescuer
	// Electorate knows who votes.
	Electorate Electorate
	Archivist  Archivist
	Events     *Events
	Log        zerolog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
}

type server struct {
	options Options
	slots   gate // requests being answered, streams included
	streams gate // event streams being followed
	backups gate // journal backups being written
	answers *answers
	metrics *metrics
	// heartbeat is Heartbeat, shorter in tests.
	heartbeat time.Duration
}

// New returns the handler of the whole API. It has to be reached over mutual
// TLS: without a client certificate every request is refused.
func New(options Options) http.Handler { return newServer(options).handler() }

func newServer(options Options) *server {
	return &server{
		options: options, heartbeat: Heartbeat, answers: newAnswers(), metrics: newMetrics(options.Registerer),
		slots:   make(gate, MaxRequests+MaxStreams),
		streams: make(gate, MaxStreams),
		backups: make(gate, MaxBackups),
	}
}

// NewServer returns an HTTP server for the handler with the API's bounds. There
// is no bound on a whole response, since streams last: each answer and each
// write has its own.
func NewServer(handler http.Handler, config *tls.Config) *http.Server {
	return &http.Server{
		Handler: handler, TLSConfig: config, MaxHeaderBytes: MaxHeader,
		ReadHeaderTimeout: BodyTimeout, IdleTimeout: 2 * time.Minute,
	}
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	document, err := json.Marshal(s.register(mux).OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("encode OpenAPI: %v", err)) // made of our own types: a test would have seen it
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document) // a client that is gone asks again
	})
	mux.HandleFunc("/", nowhere(mux))
	return s.metrics.measure(s.survive(s.admit(receive(s.once(noteRoute(mux))))))
}

// nowhere answers for paths and methods that do not exist.
func nowhere(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := newProblem(CodeUnknown, fmt.Sprintf("no %s %s here", r.Method, r.URL.Path))
		p.Do = "/openapi.json lists what there is."
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			p.Status, p.Detail = http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", r.URL.Path, strings.Join(allowed, " and "), r.Method)
		}
		writeProblem(w, p)
	}
}

// OpenAPI returns the description of the API as YAML; docs/reference has it.
func OpenAPI() ([]byte, error) {
	return newServer(Options{}).register(http.NewServeMux()).OpenAPI().YAML()
}

func (s *server) register(mux *http.ServeMux) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(typeOf[huma.ErrorModel](), typeOf[Problem]())
	api := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Signalbox", Version: "v1",
				Description: "Moves mastership of services between data centers. Mutual TLS; problems are RFC 9457 with a stable code.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{Schemas: registry},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{translate},
	})
	s.registerViews(api)
	s.registerHandovers(api)
	s.registerOrders(api)
	s.registerRules(api)
	s.registerRescue(api)
	s.registerVoters(api)
	s.registerEvents(api)
	s.registerBackup(api)
	return api
}

// operation describes an endpoint; errors are the codes it may answer with
// beside invalid, untrusted, busy and internal.
func operation(id, method, path, tag, summary, description string, codes ...string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Description: description, Tags: []string{tag},
		MaxBodyBytes:    MaxBody + 1, // receive refuses at MaxBody
		BodyReadTimeout: -1,          // receive has read it
	}
	seen := map[int]bool{}
	for _, code := range append(codes, CodeInvalid, CodeUntrusted, CodeBusy, CodeInternal) {
		if status := kindOf(code).status; !seen[status] {
			seen[status] = true
			op.Errors = append(op.Errors, status)
		}
	}
	return op
}

// answering wraps a handler: its time is bounded, and its error is a problem.
func answering[I, O any](handle func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
		defer cancel()
		out, err := handle(ctx, in)
		if err == nil {
			return out, nil
		}
		p := problemOf(err)
		if p.Status == http.StatusServiceUnavailable {
			return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
		}
		return nil, p
	}
}

// gate lets its capacity in at once and turns the others away.
type gate chan struct{}

func (g gate) enter() (leave func(), ok bool) {
	select {
	case g <- struct{}{}:
		return sync.OnceFunc(func() { <-g }), true
	default:
		return nil, false
	}
}
