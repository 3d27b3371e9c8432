package redis_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis/redistest"
)

// Guards: everything goes over TLS with client certificates where that is asked
// for: orders, looks at the other servers, and replication; a server whose
// certificate is of somebody else is named.
func TestTLS(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	encrypted := func(name string) *site {
		n, err := lab.Node(name)
		drivertest.Check(t, err)
		c, err := lab.Issue(name, "127.0.0.1")
		drivertest.Check(t, err)
		drivertest.Check(t, n.Encrypted(c))
		s := siteOf(t, n, func(cfg *redis.Config) { cfg.Login, cfg.Replicas = redistest.TLS(cfg.Login, c), 1 })
		s.client.Close()
		s.client = s.overTLS()
		return s
	}
	p := &pair{Orders: drivertest.NewOrders(t, patience), east: encrypted("tls-east"), west: encrypted("tls-west")}
	t.Cleanup(p.logs)
	p.Promote(p.east, 1, nil)
	p.follow(p.west, p.east, 1)
	// No server listens without TLS, so a link that is up is encrypted; each has a certificate of its own.
	if on := p.west.client.ConfigGet(ctx, "tls-replication").Val()["tls-replication"]; on != "yes" || !p.west.linked(ctx) {
		t.Fatalf("tls-replication %q, linked: %v", on, p.west.linked(ctx))
	}
	p.east.set(ctx, "one", "x")
	position := p.StepDown(p.east, 1)
	p.Promote(p.west, 2, position)
	if n := p.west.client.Exists(ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
	p.follow(p.east, p.west, 2)
	if !p.east.linked(ctx) {
		t.Fatal("the old master does not replicate over TLS")
	}

	stranger, err := os.CreateTemp(t.TempDir(), "ca")
	drivertest.Check(t, err)
	_, err = stranger.WriteString(strangersCA)
	drivertest.Check(t, err)
	drivertest.Check(t, stranger.Close())
	p.east.cfg.Login.CA = stranger.Name()
	p.east.again()
	p.Problem(p.east, "tls")
	_, err = p.east.driver.StepDown(ctx, driver.StepDown{Service: "db", Term: 2})
	if err == nil {
		t.Fatal("it stepped down a server that it does not know")
	}
}

// overTLS is a client of the server.
func (s *site) overTLS() *goredis.Client {
	s.t.Helper()
	pem, err := os.ReadFile(s.cfg.Login.CA)
	drivertest.Check(s.t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(s.cfg.Login.Cert, s.cfg.Login.Key)
	drivertest.Check(s.t, err)
	options := *s.Open().Options()
	options.Dialer, options.TLSConfig = nil, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return goredis.NewClient(&options)
}

// strangersCA signed nothing here.
const strangersCA = `-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUZ1vF1KVRMC0HgOa08EImL7w5jtowCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIc3RyYW5nZXIwIBcNMjYxMTIyMjI1MTQ5WhgPMjEyNjEwMjkyMjUxNDlaMBMxETAPBgNVBAMMCHN0cmFuZ2VyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeL5uOQ6ZIXLbFEJU6n+6MgjlbSm3Byf7d5ZHTbNH6cvP+dHbjuymXyaTQt8aHqUsPXWkZTyOe+KzzdvaTaf3QaNTMFEwHQYDVR0OBBYEFNK8Jtz12+viq9ISMRzG7Bp1wipUMB8GA1UdIwQYMBaAFNK8Jtz12+viq9ISMRzG7Bp1wipUMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgFDSFWZEOFJWZreEemZCeEmbyipLcPfTuVSAAWcHGIO0CIQDG5nBxbH/Z7lYJJCK4klry2rj42b7CXJ7v5fg6+RuuQQ==
-----END CERTIFICATE-----
`
