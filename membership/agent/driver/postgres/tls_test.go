package postgres_test

import (
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// encrypted is a pair whose servers take verified TLS only, on either side.
func encrypted(t *testing.T, mode string) *pair {
	t.Helper()
	return newPairOf(t, func(n *pgtest.Node) {
		server, err := lab.Issue(n.Name, "127.0.0.1")
		drivertest.Check(t, err)
		client, err := lab.ClientCertificate()
		drivertest.Check(t, err)
		drivertest.Check(t, n.Encrypt(mode, server, client))
	}, nil)
}

// Guards: with TLS every connection is verified on both sides: the driver's to
// either server, replication, and pg_rewind's.
func TestTLS(t *testing.T) {
	t.Parallel()
	p := encrypted(t, postgres.VerifyFull)
	plain := `select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)
		where not s.ssl or s.client_dn is distinct from '/CN=signalbox'`
	streams := `select count(*) from pg_stat_ssl s join pg_stat_replication r using (pid) where s.ssl and s.client_dn = '/CN=signalbox'`
	for _, s := range []*site{p.east, p.west} {
		if n := value[int64](p.Ctx, s, plain+" and a.client_addr is not null"); n != 0 {
			t.Fatalf("%d sessions of %s are not encrypted and verified", n, s.Name)
		}
	}
	if n := value[int64](p.Ctx, p.east, streams); n != 1 {
		t.Fatalf("%d encrypted standbys", n)
	}
	p.Promote(p.west, 2, p.StepDown(p.east, 1))
	p.Follow(p.east, p.west, 2)
	p.inStep(p.east, p.west)

	p.west.exec(p.Ctx, "create table public.before (id int)") // and a failover, so that it is rewound
	p.inStep(p.east, p.west)
	p.cut(p.east)
	p.west.exec(p.Ctx, "insert into public.orders (note) select 'lost' from generate_series(1, 1000)")
	p.west.Kill()
	p.Promote(p.east, 3, nil)
	p.Follow(p.west, p.east, 3)
	if loss := p.west.driver.Loss(); loss == nil || loss.Bytes == 0 {
		t.Fatalf("loss %+v: it was not rewound", loss)
	}
	if n := value[int64](p.Ctx, p.east, streams); n != 1 {
		t.Fatalf("%d encrypted standbys after the rewind", n)
	}
}

// Guards: a certificate of somebody else, one for another host and a server
// without TLS are named, each with what to do, nothing is stopped for them, and
// no password or data goes there.
func TestTLSProblems(t *testing.T) {
	t.Parallel()
	p := encrypted(t, postgres.VerifyFull)
	follow := func() {
		t.Helper()
		order := driver.Follow{Service: "db", Term: 1, Address: strings.Replace(p.east.Address(), "127.0.0.1", "localhost", 1)}
		var err error
		p.Await(func() bool { // a busy server may run into a limit first
			err = p.west.driver.Follow(p.Ctx, order)
			if err == nil || p.west.PID() == 0 {
				t.Fatalf("%v; it follows, or was stopped for, a primary that cannot be verified", err)
			}
			return strings.Contains(err.Error(), "tls: ")
		}, func() any { return err })
	}
	follow() // the certificate is for 127.0.0.1
	own := p.west.cfg

	stranger, err := pgtest.Open(pgtest.Memory())
	drivertest.Check(t, err)
	t.Cleanup(func() { drivertest.Check(t, stranger.Close()) })
	other, err := stranger.Issue("signalbox")
	drivertest.Check(t, err)
	tls := *own.TLS
	tls.CA = other.CA
	p.west.cfg.TLS = &tls
	p.west.again()
	if got := p.Problem(p.west, "tls"); !strings.Contains(got.Do, "tls.ca") {
		t.Fatalf("%+v", got)
	}
	follow()

	tls = *own.TLS
	tls.Cert, tls.Key = other.Cert, other.Key // signed by nobody whom the servers know
	p.west.again()
	if got := p.Problem(p.west, "tls"); !strings.Contains(got.Do, "ssl_ca_file") {
		t.Fatalf("%+v", got)
	}
	follow()
	p.west.cfg = own
	p.west.again()
	p.Ready(p.west)

	// The primary's certificate is renewed, for the wrong host.
	_, err = lab.Issue(p.east.Name, "elsewhere.example")
	drivertest.Check(t, err)
	p.east.exec(p.Ctx, "select pg_reload_conf()")
	p.Await(func() bool {
		c, err := p.east.connect(p.Ctx)
		if err == nil {
			c.Close(p.Ctx)
		}
		return err != nil
	}, func() any { return "the server still shows its old certificate" })
	p.west.again() // connects anew
	if got := p.Problem(p.west, "tls"); !strings.Contains(got.What, "127.0.0.1") || !strings.Contains(got.Do, "verify-ca") {
		t.Fatalf("%+v", got)
	}
	tls = *own.TLS
	tls.Mode = postgres.VerifyCA
	p.west.cfg.TLS = &tls
	p.west.again()
	p.Ready(p.west)

	n, err := stranger.Primary("plain")
	drivertest.Check(t, err)
	plain := newSite(t, n, nil)
	p.Promote(plain, 1, nil)
	err = p.west.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 1, Address: plain.Address()})
	drivertest.Refused(t, err, "ssl = on")
	if p.west.PID() == 0 {
		t.Fatal("the standby was stopped for a primary without TLS")
	}
}

// Guards: what is wrong with the configuration is said at the start.
func TestTLSConfig(t *testing.T) {
	t.Parallel()
	n, err := lab.Primary("tls-config")
	drivertest.Check(t, err)
	client, err := lab.ClientCertificate()
	drivertest.Check(t, err)
	for what, change := range map[string]func(*postgres.Config){
		"mode":      func(c *postgres.Config) { c.TLS.Mode = "require" },
		"ca":        func(c *postgres.Config) { c.TLS.CA = "" },
		"CA file":   func(c *postgres.Config) { c.TLS.CA += ".gone" },
		"key":       func(c *postgres.Config) { c.TLS.Key = "" },
		"say it":    func(c *postgres.Config) { c.Replicate += " sslmode=disable" },
		"replicate": func(c *postgres.Config) { c.Replicate += " sslcert=/x" },
	} {
		drivertest.Check(t, n.Encrypt(postgres.VerifyFull, client, client))
		c := n.Config()
		change(&c)
		_, err := postgres.New(c)
		drivertest.Refused(t, err, what)
	}
}
