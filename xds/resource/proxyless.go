package resource

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// How often, and after how long at first, a refused proxyless call is tried
// again; by the second time the client's balancer has the parking endpoint.
const (
	proxylessRetries = 4
	proxylessBackoff = 5 * time.Millisecond
)

// The proxyless profile is for gRPC clients that resolve xds:///<service>
// themselves (grpc-go). Their route and cluster never change: a route that
// names a new cluster makes grpc-go pick by the new name before its balancer
// knows it, and 9 of 10 calls of a busy client failed so. Instead a hold is
// an endpoint that accepts and never answers, the gateway's parking listener:
// calls wait while the client connects, until EDS brings the master.

// ProxylessListener builds the API listener of a gRPC service, or nil for
// other protocols and before the first term.
func ProxylessListener(s Service) (*Resource, error) {
	if !s.proxyless() {
		return nil, nil
	}
	return build(s.Name, 0, &listenerv3.Listener{
		Name: s.Name,
		ApiListener: &listenerv3.ApiListener{ApiListener: mustPack(&hcmv3.HttpConnectionManager{
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
				RouteConfigName: s.Name, ConfigSource: adsSource(),
			}},
			HttpFilters: []*hcmv3.HttpFilter{{
				Name:       "envoy.filters.http.router",
				ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustPack(&routerv3.Router{})},
			}},
		})},
	})
}

// ProxylessRoute builds the constant route of a gRPC service, or nil as
// ProxylessListener does. A proxyless client adds no headers, so its calls
// carry no term.
//
// grpc-go acknowledges endpoints before its balancer has them, so a call may
// reach the old master after the hold was acknowledged. An instance that is not
// master answers RESOURCE_EXHAUSTED, and the call is tried again: of the codes
// that grpc-go can retry by configuration it is the one that a broken
// connection never makes, so nothing that may have been processed is repeated.
func ProxylessRoute(s Service) (*Resource, error) {
	if !s.proxyless() {
		return nil, nil
	}
	return build(s.Name, 0, &routev3.RouteConfiguration{
		Name: s.Name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: s.Name, Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: s.Name},
					RetryPolicy: &routev3.RetryPolicy{
						RetryOn: "resource-exhausted", NumRetries: wrapperspb.UInt32(proxylessRetries),
						RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(proxylessBackoff)},
					},
				}},
			}},
		}},
	})
}

// ProxylessCluster builds the constant cluster of a gRPC service; its
// endpoints come by EDS.
func ProxylessCluster(s Service) (*Resource, error) {
	if !s.proxyless() {
		return nil, nil
	}
	return build(s.Name, 0, &clusterv3.Cluster{
		Name:                 s.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()},
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxRequests: wrapperspb.UInt32(s.Limits.Requests),
		}}},
	})
}

// ProxylessEndpoints builds a gRPC service's endpoints: the certified ones
// when RouteTerm is released, else the parking listeners'. Give it those of all
// gateways of the data center: calls fail at once when the last one dies. A
// hold's version ranks below the release of the same term, so that a gateway
// that missed the release does not park its clients again.
func ProxylessEndpoints(s Service, parking []Endpoint) (*Resource, error) {
	if !s.proxyless() {
		return nil, nil
	}
	if s.Released(s.RouteTerm) {
		return build(s.Name, s.CertifiedTerm, assignment(s.Name, s.Endpoints))
	}
	r, err := build(s.Name, max(s.RouteTerm, s.CertifiedTerm), assignment(s.Name, normalize(parking)))
	if err != nil {
		return nil, err
	}
	r.Version, r.Rank = holdVersion(r.Version), r.Rank-1
	return r, nil
}

func (s Service) proxyless() bool { return s.Protocol == GRPC && s.RouteTerm > 0 }
