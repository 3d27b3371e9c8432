package rpc

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/signalbox-io/signalbox"
)

// A Role says what a TLS certificate lets its holder be.
type Role string

// The roles.
const (
	RoleGateway  Role = "gateway"
	RoleAgent    Role = "agent"
	RoleProxy    Role = "proxy"
	RoleOperator Role = "operator"
)

// A Principal is who holds a TLS certificate, from its SPIFFE URI:
// spiffe://<cluster>/<role>/<data center>/<name>, without a data center for an
// operator.
type Principal struct {
	Cluster    string
	Role       Role
	DataCenter signalbox.DataCenter
	Name       string
}

// URI returns the principal's SPIFFE URI.
func (p Principal) URI() *url.URL {
	path := "/" + string(p.Role) + "/" + p.Name
	if p.Role != RoleOperator {
		path = "/" + string(p.Role) + "/" + string(p.DataCenter) + "/" + p.Name
	}
	return &url.URL{Scheme: "spiffe", Host: p.Cluster, Path: path}
}

// String returns the URI.
func (p Principal) String() string { return p.URI().String() }

// PrincipalOf reads the principal of a certificate. It does not verify the
// certificate; TLS does.
func PrincipalOf(cert *x509.Certificate) (Principal, error) {
	if len(cert.URIs) != 1 {
		return Principal{}, fmt.Errorf("%w: certificate has %d URIs, want one spiffe:// URI", signalbox.ErrUntrusted, len(cert.URIs))
	}
	return ParsePrincipal(cert.URIs[0].String())
}

// ParsePrincipal reads a SPIFFE URI of this form.
func ParsePrincipal(uri string) (Principal, error) {
	bad := fmt.Errorf("%w: identity %.200q: want spiffe://<cluster>/<role>/<data center>/<name>", signalbox.ErrUntrusted, uri)
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return Principal{}, bad
	}
	parts := strings.Split(rest, "/")
	var p Principal
	switch {
	case len(parts) == 3 && parts[1] == string(RoleOperator):
		p = Principal{Cluster: parts[0], Role: RoleOperator, Name: parts[2]}
	case len(parts) == 4 && (parts[1] == string(RoleGateway) || parts[1] == string(RoleAgent) || parts[1] == string(RoleProxy)):
		p = Principal{Cluster: parts[0], Role: Role(parts[1]), DataCenter: signalbox.DataCenter(parts[2]), Name: parts[3]}
		if signalbox.CheckName("data center", parts[2]) != nil {
			return Principal{}, bad
		}
	default:
		return Principal{}, bad
	}
	if signalbox.CheckName("cluster", p.Cluster) != nil || signalbox.CheckName("holder", p.Name) != nil {
		return Principal{}, bad
	}
	return p, nil
}

// PrincipalFrom returns who is at the other end of a gRPC call; ErrUntrusted
// when the call did not come over mutual TLS.
func PrincipalFrom(ctx context.Context) (Principal, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Principal{}, fmt.Errorf("%w: no peer", signalbox.ErrUntrusted)
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return Principal{}, fmt.Errorf("%w: no client certificate", signalbox.ErrUntrusted)
	}
	return PrincipalOf(info.State.VerifiedChains[0][0])
}
