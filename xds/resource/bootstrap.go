package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// MaxGateways bounds the gateway addresses of one bootstrap.
const MaxGateways = 64

const (
	controlConnectTimeout = time.Second
	// A gateway that vanished without closing is noticed within the sum.
	controlPing        = 2 * time.Second
	controlPingTimeout = 2 * time.Second
)

// BootstrapOptions say how a proxy reaches its gateways and who it is.
type BootstrapOptions struct {
	Cluster    string // Signalbox cluster, the SPIFFE trust domain
	DataCenter string
	Name       string // the proxy's name inside the data center
	// Gateways are the xDS addresses of the data center's gateways,
	// host:port. Host names are resolved by the proxy.
	Gateways []string
	// AdminAddress and AdminPort are Envoy's own administration interface; a
	// zero port leaves it out.
	AdminAddress string
	AdminPort    uint32
	// CertFile, KeyFile and CAFile are PEM files on the proxy's machine. All
	// three or none; none is for tests on one machine only.
	CertFile, KeyFile, CAFile string
}

// NodeID is the proxy's node id, <dc>/<name>.
func (o BootstrapOptions) NodeID() string { return o.DataCenter + "/" + o.Name }

// ProxyURI is the URI that a proxy's client certificate must carry.
func ProxyURI(cluster, nodeID string) string { return "spiffe://" + cluster + "/proxy/" + nodeID }

// GatewayURIPrefix is what the URI of every gateway's certificate begins with.
func GatewayURIPrefix(cluster string) string { return "spiffe://" + cluster + "/gateway/" }

// Validate returns ErrInvalid, wrapped with the option and what was expected.
func (o BootstrapOptions) Validate() error {
	for field, v := range map[string]string{"cluster": o.Cluster, "data center": o.DataCenter, "name": o.Name} {
		if err := ValidateName(v); err != nil {
			return fmt.Errorf("bootstrap: %s: %w", field, err)
		}
	}
	if len(o.Gateways) == 0 || len(o.Gateways) > MaxGateways {
		return fmt.Errorf("bootstrap: %w: %d gateways: want 1 to %d", ErrInvalid, len(o.Gateways), MaxGateways)
	}
	for _, g := range o.Gateways {
		if _, _, err := splitHostPort(g); err != nil {
			return fmt.Errorf("bootstrap: %w: gateway: %w", ErrInvalid, err)
		}
	}
	set := 0
	for _, f := range []string{o.CertFile, o.KeyFile, o.CAFile} {
		if f != "" {
			set++
		}
	}
	if set != 0 && set != 3 {
		return fmt.Errorf("bootstrap: %w: certificate, key and CA files: want all three or none", ErrInvalid)
	}
	if o.AdminPort != 0 {
		if err := validateAddress(o.AdminAddress, o.AdminPort); err != nil {
			return fmt.Errorf("bootstrap: %w: admin: %w", ErrInvalid, err)
		}
	}
	return nil
}

func splitHostPort(hostport string) (host string, port uint32, err error) {
	at := strings.LastIndexByte(hostport, ':')
	if at <= 0 {
		return "", 0, fmt.Errorf("%.100q: want host:port", hostport)
	}
	host = strings.Trim(hostport[:at], "[]")
	n, err := strconv.ParseUint(hostport[at+1:], 10, 16)
	if err != nil || n == 0 || host == "" || len(host) > 253 {
		return "", 0, fmt.Errorf("%.100q: want host:port with a port of 1 to 65535", hostport)
	}
	return host, uint32(n), nil
}

// Bootstrap returns a complete Envoy configuration as JSON (which is YAML
// too): listeners, routes and on-demand clusters from the gateways over
// mutual TLS, and load reports to them.
func Bootstrap(o BootstrapOptions) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: o.NodeID(), Cluster: o.DataCenter, Locality: &corev3.Locality{Zone: o.DataCenter}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{controlCluster(o)},
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: adsSource(),
			AdsConfig: apiSource(corev3.ApiConfigSource_DELTA_GRPC),
		},
		ClusterManager: &bootstrapv3.ClusterManager{LoadStatsConfig: apiSource(corev3.ApiConfigSource_GRPC)},
	}
	if o.AdminPort != 0 {
		b.Admin = &bootstrapv3.Admin{Address: socketAddress(o.AdminAddress, o.AdminPort)}
	}
	return toJSON(b)
}

// RouteOnly returns what an existing Envoy needs to follow one service behind
// listeners of its own, as a JSON object: "clusters" to add to its static
// clusters, and for HTTP "http_filters" and "rds" to put into the connection
// manager (instead of its router filter and route table), for TCP the
// "on_demand" of tcp_proxy; "cluster_manager" makes it report load. "node"
// must be what it identifies itself with. A TCP service's route is its
// listener, which an Envoy must take from the gateway ("lds_config").
func RouteOnly(o BootstrapOptions, service string, p Protocol, hold time.Duration) ([]byte, error) {
	if err := errors.Join(o.Validate(), ValidateName(service)); err != nil {
		return nil, err
	}
	hold = orDefault(hold, DefaultHoldTimeout)
	parts := map[string]any{}
	add := func(name string, list bool, messages ...proto.Message) error {
		raw := make([]json.RawMessage, 0, len(messages))
		for _, m := range messages {
			b, err := toJSON(m)
			if err != nil {
				return err
			}
			raw = append(raw, b)
		}
		if list {
			parts[name] = raw
		} else {
			parts[name] = raw[0]
		}
		return nil
	}
	errs := []error{
		add("node", false, &corev3.Node{Id: o.NodeID(), Cluster: o.DataCenter}),
		add("clusters", true, controlCluster(o)),
		add("cluster_manager", false, &bootstrapv3.ClusterManager{LoadStatsConfig: apiSource(corev3.ApiConfigSource_GRPC)}),
	}
	if p == TCP {
		errs = append(errs, add("lds_config", false, deltaSource()))
	} else {
		filters := httpFilters(hold)
		errs = append(errs,
			add("http_filters", true, filters[0], filters[1]),
			add("rds", false, &hcmv3.Rds{RouteConfigName: service, ConfigSource: deltaSource()}))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("build route-only configuration: %w", err)
	}
	return indent(parts)
}

func controlCluster(o BootstrapOptions) *clusterv3.Cluster {
	kind := clusterv3.Cluster_STATIC
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, g := range o.Gateways {
		host, port, _ := splitHostPort(g) // validated
		if _, err := netip.ParseAddr(host); err != nil {
			kind = clusterv3.Cluster_STRICT_DNS
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(host, port)}},
		})
	}
	c := &clusterv3.Cluster{
		Name:                 ControlCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:       durationpb.New(controlConnectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: ControlCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{locality},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptionsKey: mustPack(&httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
				ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
						Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
							Interval: durationpb.New(controlPing), Timeout: durationpb.New(controlPingTimeout),
						}},
					},
				},
			},
		})},
	}
	if o.CertFile != "" {
		c.TransportSocket = clientTLS(o)
	}
	return c
}

func clientTLS(o BootstrapOptions) *corev3.TransportSocket {
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: mustPack(&tlsv3.UpstreamTlsContext{
			// grpc-go refuses a TLS connection without ALPN.
			CommonTlsContext: &tlsv3.CommonTlsContext{
				AlpnProtocols:   []string{"h2"},
				TlsParams:       &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
				TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file(o.CertFile), PrivateKey: file(o.KeyFile)}},
				ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
					TrustedCa: file(o.CAFile),
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
						SanType: tlsv3.SubjectAltNameMatcher_URI,
						Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: GatewayURIPrefix(o.Cluster)}},
					}},
				}},
			},
			AllowRenegotiation: false,
			MaxSessionKeys:     wrapperspb.UInt32(0),
		})},
	}
}

// BootstrapGRPC returns the bootstrap of a proxyless grpc-go client, for the
// file that GRPC_XDS_BOOTSTRAP names.
func BootstrapGRPC(o BootstrapOptions) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	creds := map[string]any{"type": "insecure"}
	if o.CertFile != "" {
		creds = map[string]any{"type": "tls", "config": map[string]string{
			"certificate_file": o.CertFile, "private_key_file": o.KeyFile, "ca_certificate_file": o.CAFile,
		}}
	}
	servers := make([]any, 0, len(o.Gateways))
	for _, g := range o.Gateways {
		servers = append(servers, map[string]any{
			"server_uri": g, "channel_creds": []any{creds}, "server_features": []string{"xds_v3"},
		})
	}
	return indent(map[string]any{
		"xds_servers": servers,
		"node": map[string]any{
			"id": o.NodeID(), "cluster": o.DataCenter, "locality": map[string]string{"zone": o.DataCenter},
		},
	})
}

func toJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshal configuration: %w", err)
	}
	var v any
	// protojson varies its white space on purpose: through encoding/json the
	// same input gives the same bytes.
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		return nil, fmt.Errorf("marshal configuration: %w", err)
	}
	return indent(v)
}

func indent(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal configuration: %w", err)
	}
	return append(b, '\n'), nil
}
