package control_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

var update = flag.Bool("update", false, "rewrite the transcripts")

// TestTranscripts plays testdata/*.txt: each line "> command" is followed by
// everything that the server said because of it. Time is virtual: a command
// ends when nothing in the server can go on, so silence is certain.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			must(t, err)
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, want) })
			if *update {
				must(t, os.WriteFile(file, []byte(got), 0o600))
			} else if got != string(want) {
				t.Errorf("%s differs; got:\n%s", file, got)
			}
		})
	}
}

// player holds the state of one transcript.
type player struct {
	t        *testing.T
	server   *control.Server
	peers    map[string]*peer
	pending  map[string][]*discovery.DeltaDiscoveryResponse // not answered, oldest first
	versions map[string]string
	out      *bytes.Buffer
	events   []control.Event
}

func play(t *testing.T, script []byte) string {
	p := &player{t: t, versions: map[string]string{}, out: &bytes.Buffer{}}
	p.restart()
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		text := lines.Text()
		switch {
		case strings.HasPrefix(text, "> "):
			fmt.Fprintln(p.out, text)
			p.run(strings.Fields(text[2:]))
			p.flush()
		case strings.HasPrefix(text, "#"), text == "":
			fmt.Fprintln(p.out, text)
		}
	}
	p.server.Close()
	return p.out.String()
}

func (p *player) restart() {
	if p.server != nil {
		p.server.Close()
		synctest.Wait()
	}
	server, err := control.New(control.Options{
		Authorize: control.AllowAll, OnEvent: func(e control.Event) { p.events = append(p.events, e) },
		Limits: control.Limits{NamesPerStream: 20, PendingAnswers: 4},
	})
	must(p.t, err)
	p.server, p.peers, p.pending, p.events = server, map[string]*peer{}, map[string][]*discovery.DeltaDiscoveryResponse{}, nil
}

var types = map[string]string{
	"listener": resource.ListenerType, "route": resource.RouteType, "cluster": resource.ClusterType, "endpoints": resource.EndpointsType,
}

func shortType(url string) string {
	for short, u := range types {
		if u == url {
			return short
		}
	}
	return url
}

// arguments splits key=value words; names are comma-separated.
func arguments(words []string) map[string]string {
	args := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	return args
}

func list(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

func (p *player) run(words []string) {
	command, name, args := words[0], "", map[string]string{}
	if len(words) > 1 {
		name, args = words[1], arguments(words[2:])
	}
	switch command {
	case "restart":
		p.restart()
	case "set":
		if err := p.server.Set(p.service(name, args)); err != nil {
			fmt.Fprintf(p.out, "error: %v\n", err)
		}
	case "remove":
		p.server.Remove(name)
	case "open":
		if args["kind"] == "ondemand" {
			p.peers[name] = newOnDemandPeer(p.t, p.server)
		} else {
			p.peers[name] = newPeer(p.t, p.server)
		}
	case "close":
		p.peers[name].cancel()
		delete(p.peers, name)
		delete(p.pending, name)
	case "send":
		p.send(p.peers[name], args)
	case "ack":
		p.peers[name].ack(p.oldest(name))
	case "nack":
		p.peers[name].nack(p.oldest(name), strings.Join(words[2:], " "))
	case "behind":
		term, _ := strconv.ParseUint(args["term"], 10, 64)
		fmt.Fprintf(p.out, "%v\n", p.server.Behind(name, term))
	case "proxies":
		for _, proxy := range p.server.Proxies() {
			fmt.Fprintf(p.out, "%s of %s (%s)\n", proxy.ID, proxy.DataCenter, proxy.Kind)
			for _, s := range proxy.Services {
				fmt.Fprintf(p.out, "  %s: has %d, pending %d, waiting for %v", s.Service, s.Term, s.Pending, s.Waiting)
				if s.Nack != nil {
					fmt.Fprintf(p.out, ", rejected %d: %s", s.Nack.Term, s.Nack.Message)
				}
				fmt.Fprintln(p.out)
			}
		}
	default:
		p.t.Fatalf("unknown command %q", command)
	}
}

// oldest takes the oldest response that was not answered.
func (p *player) oldest(name string) *discovery.DeltaDiscoveryResponse {
	if len(p.pending[name]) == 0 {
		return &discovery.DeltaDiscoveryResponse{TypeUrl: resource.RouteType, Nonce: "1"} // answered long ago
	}
	r := p.pending[name][0]
	p.pending[name] = p.pending[name][1:]
	return r
}

func (p *player) service(name string, args map[string]string) resource.Service {
	number := func(k string) uint64 { n, _ := strconv.ParseUint(args[k], 10, 64); return n }
	s := resource.Service{
		Name: name, Protocol: resource.HTTP, Listener: &resource.Listener{Address: "127.0.0.1", Port: 8080},
		RouteTerm: number("route"), CertifiedTerm: number("certified"), OldestTerm: number("oldest"),
	}
	if v := args["protocol"]; v != "" {
		s.Protocol = resource.Protocol(v)
	}
	if args["listener"] == "no" {
		s.Listener = nil
	}
	for _, e := range list(args["at"]) {
		s.Endpoints = append(s.Endpoints, resource.Endpoint{Address: e, Port: 80})
	}
	return s
}

func (p *player) send(to *peer, args map[string]string) {
	typ := types[args["type"]]
	req := &discovery.DeltaDiscoveryRequest{
		TypeUrl: typ, ResourceNamesSubscribe: list(args["names"]), ResourceNamesUnsubscribe: list(args["drop"]),
		InitialResourceVersions: map[string]string{}, Node: nodeOf(args["node"]),
	}
	for _, name := range list(args["have"]) {
		name, version, literal := strings.Cut(name, ":")
		if !literal {
			version = p.versions[typ+name]
		}
		req.InitialResourceVersions[name] = version
	}
	to.put(req)
}

// flush waits until the server is idle and writes what it said.
func (p *player) flush() {
	synctest.Wait()
	names := make([]string, 0, len(p.peers))
	for name := range p.peers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for more := true; more; {
			select {
			case r := <-p.peers[name].out:
				p.show(name, r)
				p.pending[name] = append(p.pending[name], r)
			case err := <-p.peers[name].done:
				fmt.Fprintf(p.out, "%s ended: %v\n", name, err)
				delete(p.peers, name)
				more = false
			default:
				more = false
			}
			synctest.Wait()
		}
	}
	for _, e := range p.events {
		fmt.Fprintf(p.out, "event %s%+v\n", strings.TrimPrefix(fmt.Sprintf("%T", e), "control."), e)
	}
	p.events = nil
}

func (p *player) show(name string, r *discovery.DeltaDiscoveryResponse) {
	fmt.Fprintf(p.out, "%s <- %s", name, shortType(r.GetTypeUrl()))
	if len(r.GetResources())+len(r.GetRemovedResources()) == 0 {
		fmt.Fprint(p.out, " nothing")
	}
	fmt.Fprintln(p.out)
	slices.SortFunc(r.GetResources(), func(a, b *discovery.Resource) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, res := range r.GetResources() {
		p.versions[r.GetTypeUrl()+res.GetName()] = res.GetVersion()
		term, _, _ := resource.ParseVersion(res.GetVersion())
		fmt.Fprintf(p.out, "  %s version %d: %s\n", res.GetName(), term, summary(p.t, res.GetResource()))
	}
	slices.Sort(r.GetRemovedResources())
	for _, gone := range r.GetRemovedResources() {
		fmt.Fprintf(p.out, "  %s removed\n", gone)
	}
}

// summary says in a word what a resource points at.
func summary(t *testing.T, a *anypb.Any) string {
	m, err := a.UnmarshalNew()
	must(t, err)
	switch m := m.(type) {
	case *routev3.RouteConfiguration:
		route := m.GetVirtualHosts()[0].GetRoutes()[0]
		if d := route.GetDirectResponse(); d != nil {
			return fmt.Sprintf("answer %d", d.GetStatus())
		}
		return "to " + route.GetRoute().GetCluster()
	case *clusterv3.Cluster:
		var at []string
		for _, e := range m.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints() {
			at = append(at, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
		return "at " + strings.Join(at, ", ")
	case *listenerv3.Listener:
		filter := m.GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
		tcp := &tcpv3.TcpProxy{}
		if filter.UnmarshalTo(tcp) == nil {
			return "tcp to " + tcp.GetCluster()
		}
		return "http"
	}
	return fmt.Sprintf("%T", m)
}
