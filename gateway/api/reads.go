package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// The lists' envelopes: an object, so that something can be added later.
type (
	// ServiceList is GET /v1/services.
	ServiceList struct {
		Services []Service `json:"services" nullable:"false"`
	}
	// InstanceList is GET /v1/instances.
	InstanceList struct {
		Instances []Instance `json:"instances" nullable:"false"`
	}
	// ProxyList is GET /v1/proxies.
	ProxyList struct {
		Proxies []Proxy `json:"proxies" nullable:"false"`
	}
	// HandoverList is GET /v1/handovers, newest first. Next is what before=
	// takes for the older ones, empty at the end.
	HandoverList struct {
		Handovers []Handover `json:"handovers" nullable:"false"`
		Next      string     `json:"next,omitempty" doc:"The value of before= for older ones; absent at the end"`
	}
)

type (
	reply[T any] struct{ Body T }
	serviceInput struct {
		Service string `path:"service" maxLength:"40" doc:"The service's name" example:"orders"`
	}
	serviceOutput struct {
		ETag string `header:"ETag" doc:"\"east@7\", as If-Match takes it"`
		Body Service
	}
	instancesInput struct {
		Service string `query:"service" maxLength:"40" doc:"Only this service's"`
	}
	proxiesInput struct {
		Service string `query:"service" maxLength:"40" doc:"Only proxies that have a route of this service, and only that route"`
	}
	healthOutput struct {
		Status int
		Body   Health
	}
)

func (s *server) registerViews(api huma.API) {
	huma.Register(api, operation("list-services", http.MethodGet, "/v1/services", "services", "List services",
		"Every configured service with its master, term and state, as this gateway knows it."),
		answering(func(ctx context.Context, _ *struct{}) (*reply[ServiceList], error) {
			services, err := s.options.Viewer.Services(ctx)
			return &reply[ServiceList]{ServiceList{withSites(services)}}, err
		}))
	huma.Register(api, operation("get-service", http.MethodGet, "/v1/services/{service}", "services", "Show a service",
		"One service, with readiness for a switch to each data center. The ETag is what If-Match takes.", CodeUnknown),
		answering(s.service))
	huma.Register(api, operation("list-instances", http.MethodGet, "/v1/instances", "services", "List instances",
		"The instances of all data centers, what they do and whom they wait for.", CodeUnknown),
		answering(func(ctx context.Context, in *instancesInput) (*reply[InstanceList], error) {
			instances, err := s.options.Viewer.Instances(ctx, in.Service)
			return &reply[InstanceList]{InstanceList{some(instances)}}, err
		}))
	huma.Register(api, operation("list-proxies", http.MethodGet, "/v1/proxies", "proxies", "List proxies",
		"Which proxy has which term, and what it rejected in its own words."),
		answering(s.proxies))
	huma.Register(api, operation("health", http.MethodGet, "/v1/healthz", "health", "Is the process alive",
		"Answers 200 as long as the gateway answers at all. Any certificate of the cluster may ask."),
		answering(func(ctx context.Context, _ *struct{}) (*reply[Health], error) {
			return &reply[Health]{s.health(ctx)}, nil
		}))
	ready := operation("ready", http.MethodGet, "/v1/readyz", "health", "Is the gateway ready",
		"200 when it is ready for proxies and orders, else 503; the body says what is missing. Any certificate of the cluster may ask.")
	ready.Responses = map[string]*huma.Response{"503": {Description: "Not ready", Content: map[string]*huma.MediaType{
		"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[Health](), true, "")}}}}
	ready.Errors = slices.DeleteFunc(ready.Errors, func(status int) bool { return status == http.StatusServiceUnavailable })
	huma.Register(api, ready, answering(func(ctx context.Context, _ *struct{}) (*healthOutput, error) {
		health := s.health(ctx)
		if !health.Ready {
			return &healthOutput{http.StatusServiceUnavailable, health}, nil
		}
		return &healthOutput{http.StatusOK, health}, nil
	}))
}

func (s *server) health(ctx context.Context) Health {
	h := s.options.Viewer.Health(ctx)
	h.Checks = some(h.Checks)
	return h
}

func (s *server) service(ctx context.Context, in *serviceInput) (*serviceOutput, error) {
	found, err := s.find(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	out := &serviceOutput{Body: found}
	if found.Master != "" {
		out.ETag = fmt.Sprintf("%q", signalbox.Expectation{DataCenter: signalbox.DataCenter(found.Master), Term: signalbox.Term(found.Term)}.String())
	}
	return out, nil
}

func (s *server) find(ctx context.Context, name string) (Service, error) {
	services, err := s.options.Viewer.Services(ctx)
	if err != nil {
		return Service{}, err
	}
	i := slices.IndexFunc(services, func(v Service) bool { return v.Name == name })
	if i < 0 {
		return Service{}, fmt.Errorf("%w: service %q is not configured here", signalbox.ErrUnknown, name)
	}
	return withSites(services[i : i+1])[0], nil
}

func (s *server) proxies(ctx context.Context, in *proxiesInput) (*reply[ProxyList], error) {
	proxies, err := s.options.Viewer.Proxies(ctx)
	if err != nil {
		return nil, err
	}
	out := []Proxy{}
	for _, p := range proxies {
		p.Routes = some(p.Routes)
		if in.Service != "" {
			p.Routes = slices.DeleteFunc(slices.Clone(p.Routes), func(r ProxyRoute) bool { return r.Service != in.Service })
			if len(p.Routes) == 0 {
				continue
			}
		}
		out = append(out, p)
	}
	return &reply[ProxyList]{ProxyList{out}}, nil
}

// some makes an empty list of none: JSON's null is a trap for programs.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func withSites(services []Service) []Service {
	out := make([]Service, len(services))
	for i, v := range services {
		v.DataCenters = some(v.DataCenters)
		out[i] = v
	}
	return out
}
