package resource

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Retries of a request that was provably not processed: the connection did
// not come up, the stream was refused, or the instance said that it is not
// master. Envoy waits a random time up to (2^n-1) x base, at most retryMax, so
// 32 retries reach over about 7 s in the mean: beyond the default hold budget,
// so that a stale request outlives even a hold whose gateways all died (12
// retries, 2 s, lost 2 of 691 requests so); still short enough to tell a caller
// that there is no master.
const (
	retryOn         = "connect-failure,refused-stream,reset-before-request,retriable-headers"
	retryCount      = 32
	retryBase       = 10 * time.Millisecond
	retryMax        = 500 * time.Millisecond
	retryOtherHosts = 3 // attempts to pick an instance that was not tried yet
)

// EnvoyRoute builds the route table of a service: everything to the cluster
// of RouteTerm. With RouteTerm 0 it answers 503. It returns nil for TCP.
func EnvoyRoute(s Service) (*Resource, error) {
	if s.Protocol == TCP {
		return nil, nil
	}
	route := &routev3.Route{
		Name:  s.Name,
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
	}
	if s.RouteTerm == 0 {
		route.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 503,
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
				InlineString: "signalbox: " + s.Name + " has no master yet; adopt it with: signalbox service adopt " + s.Name + "\n",
			}},
		}}
	} else {
		route.Action = &routev3.Route_Route{Route: routeAction(s)}
		route.RequestHeadersToAdd = []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: TermHeader, Value: strconv.FormatUint(s.RouteTerm, 10)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}
	}
	return build(s.Name, s.RouteTerm, &routev3.RouteConfiguration{
		Name: s.Name,
		// The clusters that routes name are on demand: unknown is normal.
		ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: s.Name, Domains: []string{"*"}, Routes: []*routev3.Route{route},
		}},
	})
}

func routeAction(s Service) *routev3.RouteAction {
	return &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: ClusterName(s.Name, s.RouteTerm)},
		Timeout:          durationpb.New(s.RequestTimeout),
		RetryPolicy: &routev3.RetryPolicy{
			RetryOn:    retryOn,
			NumRetries: wrapperspb.UInt32(retryCount),
			RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
				BaseInterval: durationpb.New(retryBase), MaxInterval: durationpb.New(retryMax),
			},
			RetriableHeaders: []*routev3.HeaderMatcher{{
				Name:                 NotMasterHeader,
				HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
			}},
			RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
				Name: "envoy.retry_host_predicates.previous_hosts",
				ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
					TypedConfig: mustPack(&previoushostsv3.PreviousHostsPredicate{}),
				},
			}},
			HostSelectionRetryMaxAttempts: retryOtherHosts,
		},
	}
}
