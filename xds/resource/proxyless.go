package resource

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The proxyless profile is for gRPC clients that resolve xds:///<service>
// themselves. They go on using an old cluster when the new one does not
// exist, so they are given the new one at once, with an endpoint that accepts
// and never answers until the term is released: calls wait while the client
// connects.

// ProxylessListener builds the API listener of a gRPC service, or nil for
// other protocols and before the first term.
func ProxylessListener(s Service) (*Resource, error) {
	if s.Protocol != GRPC || s.RouteTerm == 0 {
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

// ProxylessRoute builds the route of a gRPC service to the cluster of
// RouteTerm, or nil as ProxylessListener does. A proxyless client adds no
// headers, so its calls carry no term.
func ProxylessRoute(s Service) (*Resource, error) {
	if s.Protocol != GRPC || s.RouteTerm == 0 {
		return nil, nil
	}
	return build(s.Name, s.RouteTerm, &routev3.RouteConfiguration{
		Name: s.Name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: s.Name, Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: ClusterName(s.Name, s.RouteTerm)},
				}},
			}},
		}},
	})
}

// ProxylessCluster builds the cluster of any term up to the routed or
// certified one; its endpoints come by EDS.
func ProxylessCluster(s Service, term uint64) (*Resource, error) {
	if s.Protocol != GRPC || term > max(s.RouteTerm, s.CertifiedTerm) {
		return nil, nil
	}
	name := ClusterName(s.Name, term)
	return build(name, term, &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()},
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxRequests: wrapperspb.UInt32(s.Limits.Requests),
		}}},
	})
}

// ProxylessEndpoints builds the endpoints of a term's cluster: the certified
// ones when it is released, else the parking listener's.
func ProxylessEndpoints(s Service, term uint64, parking Endpoint) (*Resource, error) {
	if s.Protocol != GRPC || term > max(s.RouteTerm, s.CertifiedTerm) {
		return nil, nil
	}
	name := ClusterName(s.Name, term)
	if s.Released(term) {
		return build(name, s.CertifiedTerm, assignment(name, s.Endpoints))
	}
	// Nothing certified for this name yet: the version carries what is
	// certified, so that a release always has a version that is not less.
	return build(name, s.CertifiedTerm, assignment(name, []Endpoint{parking}))
}
