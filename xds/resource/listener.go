package resource

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ControlCluster is the name of the cluster of gateways in every bootstrap.
const ControlCluster = "signalbox"

const (
	// onDemandPrime ends Envoy's wait for the first answer of the on-demand
	// stream. Until that wait is over Envoy asks for no second name, so a
	// proxy whose first request meets a hold would park every other service
	// with it. Silence after it still means hold.
	onDemandPrime = 10 * time.Millisecond
	// Reconnecting to a gateway: Envoy's defaults are 500 ms to 30 s, far too
	// slow for a gateway that dies in the middle of a hold.
	reconnectBase = 50 * time.Millisecond
	reconnectMax  = time.Second

	idleTimeout    = 5 * time.Minute // of HTTP streams; Envoy's default
	tcpAttempts    = 10
	tcpBackoffBase = 10 * time.Millisecond
	tcpBackoffMax  = 500 * time.Millisecond
)

// EnvoyListener builds a service's listener, or nil when it has none. That of
// an HTTP service never changes with the term; that of a TCP service names
// the cluster of RouteTerm and changes its filter chain in place.
func EnvoyListener(s Service) (*Resource, error) {
	if s.Listener == nil || (s.Protocol == TCP && s.RouteTerm == 0) {
		return nil, nil
	}
	var filter *listenerv3.Filter
	var term uint64
	if s.Protocol == TCP {
		filter, term = tcpFilter(s), s.RouteTerm
	} else {
		filter = httpFilter(s)
	}
	return build(s.Name, term, &listenerv3.Listener{
		Name:             s.Name,
		Address:          socketAddress(s.Listener.Address, s.Listener.Port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains:     []*listenerv3.FilterChain{{Name: s.Name, Filters: []*listenerv3.Filter{filter}}},
	})
}

func httpFilter(s Service) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: mustPack(&hcmv3.HttpConnectionManager{
			StatPrefix:        s.Name,
			CodecType:         hcmv3.HttpConnectionManager_AUTO,
			UseRemoteAddress:  wrapperspb.Bool(true),
			NormalizePath:     wrapperspb.Bool(true),
			DrainTimeout:      durationpb.New(s.DrainTimeout),
			StreamIdleTimeout: durationpb.New(max(idleTimeout, 2*s.HoldTimeout)),
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
				RouteConfigName: s.Name, ConfigSource: adsSource(),
			}},
			HttpFilters: httpFilters(s.HoldTimeout),
		})},
	}
}

func httpFilters(hold time.Duration) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		{
			Name: "envoy.filters.http.on_demand",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustPack(&ondemandv3.OnDemand{
				Odcds: &ondemandv3.OnDemandCds{Source: onDemandSource(), Timeout: durationpb.New(hold)},
			})},
		},
		{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustPack(&routerv3.Router{})},
		},
	}
}

func tcpFilter(s Service) *listenerv3.Filter {
	proxy := &tcpv3.TcpProxy{
		StatPrefix:         s.Name,
		ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: ClusterName(s.Name, s.RouteTerm)},
		OnDemand:           &tcpv3.TcpProxy_OnDemand{OdcdsConfig: onDemandSource(), Timeout: durationpb.New(s.HoldTimeout)},
		MaxConnectAttempts: wrapperspb.UInt32(tcpAttempts),
		BackoffOptions: &corev3.BackoffStrategy{
			BaseInterval: durationpb.New(tcpBackoffBase), MaxInterval: durationpb.New(tcpBackoffMax),
		},
	}
	if s.IdleTimeout > 0 {
		proxy.IdleTimeout = durationpb.New(s.IdleTimeout)
	}
	return &listenerv3.Filter{
		Name:       "envoy.filters.network.tcp_proxy",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: mustPack(proxy)},
	}
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// deltaSource is a stream of its own to the gateways, beside ADS.
func deltaSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{
			ApiConfigSource: apiSource(corev3.ApiConfigSource_DELTA_GRPC),
		},
	}
}

// onDemandSource is the dedicated stream for on-demand clusters. Not ADS:
// Envoy 1.38 to 1.40 lose a name for good there once it timed out (its pull
// requests 44742, 44765 and 47201).
func onDemandSource() *corev3.ConfigSource {
	source := deltaSource()
	source.InitialFetchTimeout = durationpb.New(onDemandPrime)
	return source
}

func apiSource(t corev3.ApiConfigSource_ApiType) *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType:                   t,
		TransportApiVersion:       corev3.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: ControlCluster,
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(reconnectBase), MaxInterval: durationpb.New(reconnectMax),
				}},
			}},
		}},
	}
}
