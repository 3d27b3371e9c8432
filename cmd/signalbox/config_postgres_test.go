package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// Rule: what is wrong with a database's TLS is said at the start, with the files
// counted from the configuration file's folder.
func TestPostgresTLS(t *testing.T) {
	dir := t.TempDir()
	c := &AgentConfig{State: filepath.Join(dir, "state"), file: filepath.Join(dir, "agent.yaml")}
	for _, one := range []struct {
		tls  PostgresTLSConfig
		want string
	}{
		{PostgresTLSConfig{CA: "tls/ca.pem"}, filepath.Join(dir, "tls", "ca.pem")},
		{PostgresTLSConfig{Mode: "verify-ca"}, "no ca"},
		{PostgresTLSConfig{CA: "ca.pem", Cert: "cert.pem"}, "cert and key go together"},
	} {
		p := &PostgresConfig{Data: "data", Connect: "host=127.0.0.1 user=signalbox", Replicate: "user=signalbox", TLS: &one.tls}
		_, err := c.driver(InstanceConfig{Service: "ledger", Name: "ledger-east", Driver: "postgres", Postgres: p}, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%+v: %v: want it to say %q", one.tls, err, one.want)
		}
	}
}
