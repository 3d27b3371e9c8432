package pgtest

import (
	"path/filepath"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed/lab"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// Encrypt has a node's server, which does not run yet, take connections over TLS
// only, and only with a certificate of the lab's CA for the role. server is its
// own, client is shown to it. Which files it has is on its command line, since
// pg_rewind brings the other server's postgresql.conf along.
func (n *Node) Encrypt(mode string, server, client lab.Certificate) error {
	n.tls = &postgres.TLS{Mode: mode, CA: client.CA, Cert: client.Cert, Key: client.Key}
	n.options = []string{"ssl=on", "ssl_cert_file=" + server.Cert, "ssl_key_file=" + server.Key, "ssl_ca_file=" + server.CA}
	return n.Lab.Write(filepath.Join(n.Data, "pg_hba.conf"), "hostssl all,replication "+role+" 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n")
}

// ClientCertificate is the one of the lab's role.
func (l *Lab) ClientCertificate() (lab.Certificate, error) {
	l.once.Do(func() { l.client, l.clientErr = l.Issue(role) })
	return l.client, l.clientErr
}
