package rpc_test

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/peer"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestPrincipal guards that one identity has one URI, and that nothing else
// is taken for one.
func TestPrincipal(t *testing.T) {
	for _, p := range []rpc.Principal{
		{Cluster: "shop", Role: rpc.RoleGateway, DataCenter: "east", Name: "gw-1"},
		{Cluster: "shop", Role: rpc.RoleAgent, DataCenter: "east", Name: "app-1"},
		{Cluster: "shop", Role: rpc.RoleProxy, DataCenter: "west", Name: "edge-1"},
		{Cluster: "shop", Role: rpc.RoleOperator, Name: "ada"},
	} {
		if got, err := rpc.ParsePrincipal(p.String()); err != nil || got != p {
			t.Errorf("%s comes back as %+v, %v", p, got, err)
		}
	}
	for _, uri := range []string{
		"", "spiffe://", "https://shop/gateway/east/gw-1", "spiffe://shop/gateway/gw-1", "spiffe://shop/gateway/east/gw-1/x",
		"spiffe://shop/gateway/east/", "spiffe://shop/gateway//gw-1", "spiffe:///gateway/east/gw-1", "spiffe://shop/admin/east/gw-1",
		"spiffe://shop/operator/east/ada", "spiffe://shop/operator/", "spiffe://shop/Gateway/east/gw-1", "spiffe://shop/gateway/east/GW",
		"spiffe://shop/gateway/east/gw-1?x", "spiffe://shop/gateway/east/gw-1#x", "spiffe://u@shop/gateway/east/gw-1",
		"spiffe://shop:1/gateway/east/gw-1", "spiffe://shop/gateway/east/%67w-1", "spiffe://shop/gateway/../gw-1",
		"spiffe://shop/gateway/east/" + strings.Repeat("x", 41), strings.Repeat("/", 1<<16),
	} {
		_, err := rpc.ParsePrincipal(uri)
		wants(t, err, signalbox.ErrUntrusted, "spiffe://<cluster>")
	}
	one, _ := url.Parse("spiffe://shop/operator/ada")
	two, _ := url.Parse("spiffe://shop/operator/bob")
	for _, uris := range [][]*url.URL{nil, {one, two}} {
		_, err := rpc.PrincipalOf(&x509.Certificate{URIs: uris})
		wants(t, err, signalbox.ErrUntrusted, "want one")
	}
	_, err := rpc.PrincipalFrom(context.Background())
	wants(t, err, signalbox.ErrUntrusted, "no peer")
	_, err = rpc.PrincipalFrom(peer.NewContext(context.Background(), &peer.Peer{}))
	wants(t, err, signalbox.ErrUntrusted, "no client certificate")
}

// TestIdentity guards that an identity has one spelling.
func TestIdentity(t *testing.T) {
	if got, err := rpc.IdentityFromBytes(rpc.IdentityToBytes(id("a"))); err != nil || got != id("a") {
		t.Errorf("%s comes back as %s, %v", id("a"), got, err)
	}
	for _, bad := range []signalbox.Identity{"", "zz", signalbox.Identity(strings.ToUpper(string(id("a")))), id("a") + "00", id("a")[1:]} {
		if rpc.IdentityToBytes(bad) != nil {
			t.Errorf("%q is taken for an identity", bad)
		}
	}
}
