package resource

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// EnvoyCluster builds the cluster of one term's name with the certified
// endpoints inline, so that a release needs one message (xds/DESIGN.md). It
// returns nil while that name is not released.
func EnvoyCluster(s Service, term uint64) (*Resource, error) {
	if !s.Released(term) {
		return nil, nil
	}
	name := ClusterName(s.Name, term)
	c := &clusterv3.Cluster{
		Name: name,
		// One series of statistics per service, not one more per term.
		AltStatName:          s.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(s.ConnectTimeout),
		LoadAssignment:       assignment(name, s.Endpoints),
		CircuitBreakers:      breakers(s.Limits),
		// Mastership is decided by certificates, never by health guesses: a
		// proxy must not panic-route, nor refuse the only master.
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}},
	}
	if s.Protocol != TCP {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: mustPack(protocolOptions(s.Protocol))}
	}
	return build(name, s.CertifiedTerm, c)
}

func protocolOptions(p Protocol) *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if p == HTTP {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	} else {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
	}
	return &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}

func breakers(l Limits) *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(l.Connections),
		MaxPendingRequests: wrapperspb.UInt32(l.Pending),
		MaxRequests:        wrapperspb.UInt32(l.Requests),
		MaxRetries:         wrapperspb.UInt32(l.Retries),
	}}}
}

func assignment(name string, endpoints []Endpoint) *endpointv3.ClusterLoadAssignment {
	locality := &endpointv3.LocalityLbEndpoints{
		Locality:            &corev3.Locality{Zone: "master"},
		LoadBalancingWeight: wrapperspb.UInt32(1),
	}
	for _, e := range endpoints {
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: socketAddress(e.Address, e.Port)},
			},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{locality}}
}

func socketAddress(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
