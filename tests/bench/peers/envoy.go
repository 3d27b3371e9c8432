package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const typePrefix = "type.googleapis.com/envoy."

// object is a piece of Envoy's JSON configuration. Envoy's Go types stay in xds; a peer needs a page of them.
type object = map[string]any

// envoy is one Envoy whose routes come from a file.
type envoy struct {
	*process
	admin   string // host:port
	address string // host:port of the listener
	routes  string // path of the route configuration
	version int    // of the route configuration, counted up with each switch
}

func startEnvoy(ctx context.Context, o Options) (Peer, error) {
	return startFleet(ctx, o, startOneEnvoy)
}

func startOneEnvoy(ctx context.Context, p prepared, index int) (proxy, error) {
	binary, err := envoyBinary()
	if err != nil {
		return nil, err
	}
	// Envoy watches the folder of the file, so each has its own.
	dir := filepath.Join(p.dir, fmt.Sprintf("envoy-%d", index))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	e := &envoy{routes: filepath.Join(dir, "routes.json")}
	if err := e.publish(East); err != nil {
		return nil, err
	}
	config, err := json.MarshalIndent(bootstrap(p, p.Ports[index], e.routes), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode bootstrap: %w", err)
	}
	file := filepath.Join(p.dir, fmt.Sprintf("envoy-%d.json", index))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	adminFile := filepath.Join(p.dir, fmt.Sprintf("envoy-%d.admin", index))
	cmd := exec.Command(binary, "--config-path", file, "--disable-hot-restart", "--concurrency", strconv.Itoa(p.Workers),
		"--admin-address-path", adminFile, "--log-level", "warning")
	if e.process, err = startProcess(p.dir, fmt.Sprintf("envoy-%d", index), cmd); err != nil {
		return nil, err
	}
	if err := e.until(ctx, "Envoy", func(ctx context.Context) error { return e.ready(ctx, adminFile) }); err != nil {
		_ = e.stop() // the first error says more
		return nil, err
	}
	return e, nil
}

// envoyBinary is $ENVOY, else an envoy on the PATH, else the one that `make tools` put into the checkout above.
func envoyBinary() (string, error) {
	if own := os.Getenv("ENVOY"); own != "" {
		return own, nil
	}
	if found, err := exec.LookPath("envoy"); err == nil {
		return found, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find envoy: %w", err)
	}
	for {
		candidate := filepath.Join(dir, ".tools", "bin", "envoy")
		if _, err := os.Stat(candidate); err == nil {
			return candidate, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", fmt.Errorf("find envoy: %w (make tools installs it)", exec.ErrNotFound)
		}
		dir = above
	}
}

func (e *envoy) url() string { return "http://" + e.address }

// ready reads where Envoy listens, for its ports are the kernel's choice, and asks whether it serves.
func (e *envoy) ready(ctx context.Context, adminFile string) error {
	admin, err := os.ReadFile(adminFile)
	if err != nil {
		return fmt.Errorf("read admin address: %w", err)
	}
	if e.admin = strings.TrimSpace(string(admin)); e.admin == "" {
		return errors.New("read admin address: it is empty yet")
	}
	if _, err := e.get(ctx, "/ready"); err != nil {
		return err
	}
	listeners, err := e.get(ctx, "/listeners")
	if err != nil {
		return err
	}
	name, address, found := strings.Cut(strings.TrimSpace(listeners), "::")
	if !found || name != "in" {
		return fmt.Errorf("read listeners: %q", listeners)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("read listeners: %w", err)
	}
	e.address = address
	return e.applied(ctx)
}

// turn publishes the routes and waits until Envoy reports their version.
func (e *envoy) turn(ctx context.Context, to string) error {
	if err := e.publish(to); err != nil {
		return err
	}
	return e.until(ctx, "new routes", e.applied)
}

// applied says nil when Envoy has the route configuration that was published last.
func (e *envoy) applied(ctx context.Context) error {
	text, err := e.get(ctx, "/stats?filter=rds.orders.version_text")
	if err != nil {
		return err
	}
	_, version, _ := strings.Cut(strings.TrimSpace(text), ": ")
	if strings.Trim(version, `"`) != strconv.Itoa(e.version) {
		return fmt.Errorf("routes are at version %s, not %d", version, e.version)
	}
	return nil
}

// publish writes the next route configuration beside the file and renames it into place: Envoy watches for renames.
func (e *envoy) publish(to string) error {
	e.version++
	data, err := json.Marshal(object{
		"version_info": strconv.Itoa(e.version),
		"resources": []object{{
			"@type": typePrefix + "config.route.v3.RouteConfiguration",
			"name":  "orders",
			"virtual_hosts": []object{{
				"name": "orders", "domains": []string{"*"},
				"routes": []object{{"match": object{"prefix": "/"}, "route": object{"cluster": to, "timeout": "60s"}}},
			}},
		}},
	})
	if err != nil {
		return fmt.Errorf("encode routes: %w", err)
	}
	if err := os.WriteFile(e.routes+".new", data, 0o600); err != nil {
		return fmt.Errorf("write routes: %w", err)
	}
	if err := os.Rename(e.routes+".new", e.routes); err != nil {
		return fmt.Errorf("publish routes: %w", err)
	}
	return nil
}

// get asks Envoy's admin interface.
func (e *envoy) get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+path, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask Envoy: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return "", fmt.Errorf("read Envoy's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask Envoy for %s: %s", path, response.Status)
	}
	return string(body), nil
}

// bootstrap is a plain Envoy: one listener, routes from a file, a static cluster for each data center.
func bootstrap(p prepared, port int, routes string) object {
	manager := object{
		"@type":       typePrefix + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "in",
		"rds": object{
			"route_config_name": "orders",
			"config_source":     object{"resource_api_version": "V3", "path_config_source": object{"path": routes}},
		},
		"http_filters": []object{{
			"name":         "envoy.filters.http.router",
			"typed_config": object{"@type": typePrefix + "extensions.filters.http.router.v3.Router"},
		}},
	}
	return object{
		"node":  object{"id": "peer", "cluster": "peer"},
		"admin": object{"address": loopback("127.0.0.1", 0)},
		"static_resources": object{
			"listeners": []object{{
				"name":    "in",
				"address": loopback("127.0.0.1", port),
				"filter_chains": []object{{"filters": []object{{
					"name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
				}}}},
			}},
			"clusters": []object{cluster(East, p.addresses[East]), cluster(West, p.addresses[West])},
		},
	}
}

func cluster(dc string, addresses []string) object {
	var endpoints []object
	for _, address := range addresses {
		host, port, _ := net.SplitHostPort(address) // prepare has checked it
		number, _ := strconv.Atoi(port)
		endpoints = append(endpoints, object{"endpoint": object{"address": loopback(host, number)}})
	}
	limits := object{"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
	return object{
		"name":             dc,
		"type":             "STATIC",
		"connect_timeout":  "5s",
		"circuit_breakers": object{"thresholds": []object{limits}},
		"load_assignment":  object{"cluster_name": dc, "endpoints": []object{{"lb_endpoints": endpoints}}},
	}
}

func loopback(host string, port int) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}
