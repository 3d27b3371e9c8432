package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-io/signalbox"
)

// TLS is how connections between servers, and from the driver to servers, are
// encrypted and verified. Files are PEM, read at each connect: a certificate can
// be renewed beside the running agent.
type TLS struct {
	// Mode is verify-full (the certificate is good for the host in the server's
	// address) or verify-ca (any certificate of that CA). Default: verify-full.
	Mode string
	// CA verifies the other server.
	CA string
	// Cert and Key are shown to it, where given: both or neither. The server reads
	// them too, when it follows: the key belongs to the user that it runs as.
	Cert, Key string
}

// The modes of TLS; those without verification are not offered.
const (
	VerifyFull = "verify-full"
	VerifyCA   = "verify-ca"
)

// Conninfo is what is added to a connection string, with a blank before it; ""
// without TLS.
func (t *TLS) Conninfo() string {
	if t == nil {
		return ""
	}
	out := " sslmode=" + t.Mode + " sslrootcert=" + quoted(t.CA)
	if t.Cert != "" {
		out += " sslcert=" + quoted(t.Cert) + " sslkey=" + quoted(t.Key)
	}
	return out
}

// quoted writes a value of a connection string.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (t *TLS) check(c *Config) error {
	switch {
	case t.Mode != VerifyFull && t.Mode != VerifyCA:
		return fmt.Errorf("%w: tls: mode %q: want %s or %s", signalbox.ErrInvalid, t.Mode, VerifyFull, VerifyCA)
	case t.CA == "":
		return fmt.Errorf("%w: tls: no ca: nobody could be verified", signalbox.ErrInvalid)
	case (t.Cert == "") != (t.Key == ""):
		return fmt.Errorf("%w: tls: cert and key go together", signalbox.ErrInvalid)
	}
	for what, text := range map[string]string{"connect": c.Connect, "replicate": c.Replicate} {
		for _, word := range []string{"sslmode", "sslrootcert", "sslcert", "sslkey"} {
			if strings.Contains(text, word+"=") {
				return fmt.Errorf("%w: %s says %s, and so does tls: say it once", signalbox.ErrInvalid, what, word)
			}
		}
	}
	return nil
}

// hungUp reports whether a server hung up at once after it saw the certificate.
// With TLS 1.3 the word why can be lost on the way.
func hungUp(err error) bool {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) || failed.Config == nil || failed.Config.TLSConfig == nil || !strings.Contains(err.Error(), "startup message") {
		return false
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// tlsAdvice says what to do about a connection that failed for its encryption;
// "" when it did not.
func tlsAdvice(err error) string {
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var server *pgconn.PgError
	var remote *net.OpError
	switch text := err.Error(); {
	case errors.As(err, &host):
		return "have the server's certificate made for the host in its address (subjectAltName), or verify its CA only (tls: mode: verify-ca)"
	case errors.As(err, &authority):
		return "look at tls.ca here and at ssl_cert_file there: they have to be of one CA"
	case errors.As(err, &invalid):
		return "renew the server's certificate (ssl_cert_file) and SELECT pg_reload_conf()"
	case strings.Contains(text, "server refused TLS connection"), errors.As(err, &record):
		return "set ssl = on, ssl_cert_file and ssl_key_file on that server and SELECT pg_reload_conf()"
	case errors.As(err, &server) && server.Code[:min(2, len(server.Code))] == "28" && strings.Contains(server.Message, "certificate"),
		errors.As(err, &remote) && remote.Op == "remote error", hungUp(err):
		return "look at tls.cert and tls.key here and at ssl_ca_file and pg_hba.conf there: the server does not take this certificate"
	case errors.As(err, &server):
		return ""
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), strings.Contains(text, "CA file"), strings.Contains(text, "cert"):
		return "look at the files of tls: they have to be there, PEM, and readable for the agent and the server's user"
	}
	return ""
}
