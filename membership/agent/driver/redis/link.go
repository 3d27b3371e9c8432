package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// clientName is the driver's connections' in CLIENT LIST.
const clientName = "signalbox"

// errDown is returned when nobody listens at a server's address.
var errDown = errors.New("the server does not run")

// link is a few kept connections to a server.
type link struct {
	options *goredis.Options

	mu     sync.Mutex // guards client
	client *goredis.Client
}

func newLink(address string, login Login) (*link, error) {
	config, err := login.tls(address)
	if err != nil {
		return nil, err
	}
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	options := &goredis.Options{
		Network: network, Addr: address, ClientName: clientName, TLSConfig: config, Protocol: 2, DisableIdentity: true,
		CredentialsProviderContext: func(context.Context) (string, string, error) { return login.read() },
		MaxRetries:                 -1, DialerRetries: 1, DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
		ContextTimeoutEnabled: true, PoolSize: 4, MaxIdleConns: 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	return &link{options: options, client: goredis.NewClient(options)}, nil
}

func (l *link) use() *goredis.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// renew forgets that the server was down: the library tries only once a second
// then, and the server may be back sooner.
func (l *link) renew() {
	l.mu.Lock()
	old := l.client
	l.client = goredis.NewClient(l.options)
	l.mu.Unlock()
	_ = old.Close() // nothing is open
}

// maxPassword bounds a password, in bytes.
const maxPassword = 4096

// read is what to log in with. A password without a user is the default user's.
func (l Login) read() (user, password string, err error) {
	if l.PasswordFile == "" {
		return "", "", nil
	}
	raw, err := os.ReadFile(l.PasswordFile)
	if err != nil {
		return "", "", fmt.Errorf("read password: %w", err)
	}
	if password = strings.TrimRight(string(raw), "\r\n"); password == "" || len(password) > maxPassword {
		return "", "", fmt.Errorf("read password: %w: %s has %d bytes", signalbox.ErrInvalid, l.PasswordFile, len(password))
	}
	if user = l.User; user == "" {
		user = "default"
	}
	return user, password, nil
}

func (l Login) tls(address string) (*tls.Config, error) {
	if l.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(l.CA)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: l.ServerName}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA: %w: %s holds no certificate", signalbox.ErrInvalid, l.CA)
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if l.Cert != "" {
		pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// look looks at the server.
func (l *link) look(ctx context.Context) (*server, error) {
	info, err := l.info(ctx)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) {
		info, err = l.info(ctx) // a kept connection of a server that has ended
	}
	if err = down(err); errors.Is(err, errDown) {
		l.renew()
	}
	if err != nil {
		return nil, err
	}
	s := parse(info)
	if s.Run == "" || len(s.ReplID) != idSize {
		return nil, fmt.Errorf("%w: what the server says of itself: it is no Redis 7", signalbox.ErrInvalid)
	}
	return s, nil
}

func (l *link) info(ctx context.Context) (string, error) {
	return l.use().Info(ctx, "server", "replication", "persistence", "memory", "cluster").Result()
}

// order has the server do something whose only good answer is OK.
func (l *link) order(ctx context.Context, words ...any) error {
	if err := l.use().Do(ctx, words...).Err(); err != nil {
		return fmt.Errorf("%v: %w", words[0], down(err))
	}
	return nil
}

func (l *link) close() { _ = l.use().Close() } // it was closed before

// down makes errDown of a refused connection.
func down(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	return err
}

// accessProblem names why a server cannot be asked. who is "this server", for
// example.
func accessProblem(who string, err error) driver.Problem {
	p := driver.Problem{Name: "unreachable", What: fmt.Sprintf("%s cannot be asked: %v", who, err), Do: "look whether it runs, and whether the address and the firewall are right"}
	text := err.Error()
	var unverified *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case strings.HasPrefix(text, "WRONGPASS"), strings.HasPrefix(text, "NOAUTH"), strings.Contains(text, "invalid username-password"):
		p.Name, p.Do = "wrong-password", "look at the user and the password file; `redis-cli ACL LIST` shows the server's users"
	case errors.Is(err, os.ErrNotExist) && strings.Contains(text, "password"):
		p.Name, p.Do = "wrong-password", "make the password file, readable by the agent"
	case strings.HasPrefix(text, "NOPERM"):
		p.Name, p.Do = "no-permission", "give the user the commands that the documentation lists (ACL SETUSER)"
	case errors.As(err, &unverified), errors.As(err, &record), strings.Contains(text, "tls:"):
		p.Name, p.Do = "tls", "look at ca, cert and key here and at tls-port and tls-ca-cert-file there"
	case strings.HasPrefix(text, "BUSY"):
		p.Name, p.Do = "script-running", "wait for it, or end it with SCRIPT KILL or FUNCTION KILL: nothing else is served meanwhile"
	case errors.Is(err, context.DeadlineExceeded):
		p.Name, p.Do = "not-answering", "look for a slow command (SLOWLOG GET) and at the machine's load"
	}
	return p
}
