package control

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// ErrNotAuthorized is returned when a client certificate is not that of the
// node id that the proxy claims.
var ErrNotAuthorized = errors.New("node id is not the client certificate's")

// AllowAll accepts every node id. For tests and benchmarks only.
func AllowAll([]*x509.Certificate, string) error { return nil }

// SPIFFE binds node ids to client certificates: a node <dc>/<name> must show
// the URI spiffe://<cluster>/proxy/<dc>/<name>.
func SPIFFE(cluster string) func([]*x509.Certificate, string) error {
	return func(certs []*x509.Certificate, nodeID string) error {
		want := resource.ProxyURI(cluster, nodeID)
		if len(certs) == 0 {
			return fmt.Errorf("%w: %.80q came without a certificate, want %s", ErrNotAuthorized, nodeID, want)
		}
		for _, uri := range certs[0].URIs {
			if uri.String() == want {
				return nil
			}
		}
		return fmt.Errorf("%w: %.80q came with %v, want %s", ErrNotAuthorized, nodeID, certs[0].URIs, want)
	}
}

// peerCertificates returns the verified leaf first, or nil without TLS.
func peerCertificates(ctx context.Context) []*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0]
}
