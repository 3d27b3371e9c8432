package demo

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

type object = map[string]any

// prepareEnvoy writes the bootstrap of one Envoy: the complete one of Signalbox, but with a listener of Envoy's own, as
// users have it who add Signalbox to their Envoys (bootstrap envoy --route-only). So several Envoys of one data center
// can share a machine, where listeners that the gateway hands out would all want the same port.
func (s *Site) prepareEnvoy(e Envoy) error {
	bundle, err := s.Issue(rpc.RoleProxy, e.DataCenter, e.Name)
	if err != nil {
		return err
	}
	return s.writeBootstrap(e, s.xds(e.DataCenter), bundle)
}

// writeBootstrap writes an Envoy's bootstrap; without a bundle it has no TLS.
func (s *Site) writeBootstrap(e Envoy, gateways []string, bundle string) error {
	o, err := s.bootstrapOptions(e, gateways, bundle)
	if err != nil {
		return err
	}
	config, err := ownListener(o, e.Listener)
	if err != nil {
		return fmt.Errorf("make bootstrap of %s: %w", e.Name, err)
	}
	return s.write(e.Name+".json", string(config))
}

func (s *Site) bootstrapOptions(e Envoy, gateways []string, bundle string) (resource.BootstrapOptions, error) {
	host, port, err := splitPort(e.Admin)
	o := resource.BootstrapOptions{
		Cluster: clusterName, DataCenter: e.DataCenter, Name: e.Name, Gateways: gateways,
		AdminAddress: host, AdminPort: port,
	}
	if bundle != "" {
		o.CertFile, o.KeyFile = filepath.Join(bundle, identity.FileCertificate), filepath.Join(bundle, identity.FileKey)
		o.CAFile = filepath.Join(bundle, identity.FileCA)
	}
	return o, err
}

func splitPort(hostport string) (string, uint32, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return host, uint32(n), err
}

// ownListener puts the parts for an existing Envoy into a complete bootstrap.
func ownListener(o resource.BootstrapOptions, address string) ([]byte, error) {
	host, port, err := splitPort(address)
	if err != nil {
		return nil, err
	}
	var bootstrap, parts object
	for into, produce := range map[*object]func() ([]byte, error){
		&bootstrap: func() ([]byte, error) { return resource.Bootstrap(o) },
		&parts:     func() ([]byte, error) { return resource.RouteOnly(o, Service, resource.HTTP, 0) },
	} {
		text, err := produce()
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, err
		}
	}
	manager := object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": Service, "codec_type": "AUTO", "use_remote_address": true,
		"rds": parts["rds"], "http_filters": parts["http_filters"],
	}
	bootstrap["static_resources"].(object)["listeners"] = []any{object{
		"name": Service, "address": object{"socket_address": object{"address": host, "port_value": port}},
		"filter_chains": []any{object{"filters": []any{object{
			"name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
		}}}},
	}}
	delete(bootstrap["dynamic_resources"].(object), "lds_config")
	return json.MarshalIndent(bootstrap, "", "  ")
}
