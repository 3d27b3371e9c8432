package apitest

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// A Cluster is some gateways that serve the API over one Fake.
type Cluster struct {
	Fake      *Fake
	Gateways  []*Gateway
	authority *identity.Authority
	dir       string
}

// A Gateway serves the API on 127.0.0.1.
type Gateway struct {
	Name, Address string
	Events        *api.Events
	handler       http.Handler
	tls           *tls.Config
	server        *http.Server
}

// Stop ends the gateway as kill -9 would: its connections break.
func (g *Gateway) Stop() { g.server.Close() }

// Start makes the keys of cluster "demo" with n gateways in east, and serves
// the API until the test ends.
func Start(t testing.TB, n int, fake *Fake) *Cluster {
	t.Helper()
	c := &Cluster{Fake: fake, dir: t.TempDir()}
	site := identity.DataCenter{Name: "east"}
	var listeners []net.Listener
	for i := range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
		gw := identity.GatewayAt("gw-east-"+strconv.Itoa(i+1), "127.0.0.1", 20000+100*i)
		gw.API = listener.Addr().String()
		site.Gateways = append(site.Gateways, gw)
	}
	west := identity.DataCenter{Name: "west", Gateways: []identity.Gateway{identity.GatewayAt("gw-west-1", "127.0.0.1", 30000)}}
	authority, err := identity.Init(filepath.Join(c.dir, "keys"), identity.Spec{Cluster: "demo", DataCenters: []identity.DataCenter{site, west}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.authority = authority
	for i, listener := range listeners {
		c.serve(t, site.Gateways[i], listener)
	}
	return c
}

func (c *Cluster) serve(t testing.TB, gw identity.Gateway, listener net.Listener) {
	t.Helper()
	keeper := c.Keeper(t, c.authority.BundleDir(rpc.Principal{Cluster: "demo", Role: rpc.RoleGateway, DataCenter: "east", Name: gw.Name}))
	events := api.NewEvents(gw.Name, 64)
	c.Fake.publish = append(c.Fake.publish, events)
	g := &Gateway{Name: gw.Name, Address: gw.API, Events: events, tls: keeper.Server(), handler: api.New(api.Options{
		Cluster: "demo", Viewer: c.Fake, Historian: c.Fake, Conductor: c.Fake, Governor: c.Fake, Surveyor: c.Fake, Rescuer: c.Fake, Electorate: c.Fake, Archivist: c.Fake, Events: events, Log: zerolog.Nop(),
	})}
	g.listen(t, listener)
	t.Cleanup(events.Close)
	c.Gateways = append(c.Gateways, g)
}

// Restart serves again at the same address after Stop, with the same events.
func (g *Gateway) Restart(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", g.Address)
	if err != nil {
		t.Fatal(err)
	}
	g.listen(t, listener)
}

func (g *Gateway) listen(t testing.TB, listener net.Listener) {
	server := api.NewServer(g.handler, g.tls)
	server.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are wanted here
	g.server = server
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "") // ends with Close
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

// Bundle issues a bundle for a role and returns its directory.
func (c *Cluster) Bundle(t testing.TB, role rpc.Role, name string) string {
	t.Helper()
	p := rpc.Principal{Cluster: "demo", Role: role, Name: name}
	if role != rpc.RoleOperator {
		p.DataCenter = signalbox.DataCenter("east")
	}
	out := filepath.Join(c.dir, string(role)+"-"+name)
	if err := c.authority.Issue(p, out, identity.IssueOptions{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Keeper reads a bundle's TLS identity.
func (c *Cluster) Keeper(t testing.TB, bundle string) *rpc.Keeper {
	t.Helper()
	b, err := identity.Load(bundle)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := b.Keeper()
	if err != nil {
		t.Fatal(err)
	}
	return keeper
}
