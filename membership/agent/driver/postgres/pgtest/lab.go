// Package pgtest makes throwaway PostgreSQL servers on loopback, for tests, the
// demo and the benchmarks: a primary from one initdb, standbys copied from it.
// They run as an unprivileged user, since PostgreSQL refuses root.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed/lab"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// Password is that of every lab's role.
const Password = "interlock"

// role is the superuser of every lab.
const role = "signalbox"

// Lab is a directory with servers in it.
type Lab struct {
	*lab.Lab
	Bin string

	once      sync.Once // for the client's certificate
	client    lab.Certificate
	clientErr error
}

// Node is one server's place; the server need not run.
type Node struct {
	Lab   *Lab
	Name  string
	Data  string
	State string
	Port  int

	tls     *postgres.TLS // see Encrypt
	options []string
}

// Find is where PostgreSQL's programs are: $PGBIN, or the newest that Debian's
// packages brought.
func Find() (string, error) {
	if dir := os.Getenv("PGBIN"); dir != "" {
		return dir, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	sort.Slice(found, func(i, j int) bool { return version(found[i]) > version(found[j]) })
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server here: make tools (or apt-get install postgresql-15), or set PGBIN")
	}
	return filepath.Dir(found[0]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// Memory is a directory that lies in memory, where the machine has one.
func Memory() string { return lab.Memory() }

// Open makes a lab in a new directory below parent ("" for the system's
// temporary one) and runs initdb once; Primary copies what it made.
func Open(parent string) (*Lab, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	base, err := lab.Open(parent, "pg", "postgres", "nobody")
	if err != nil {
		return nil, err
	}
	l := &Lab{Lab: base, Bin: bin}
	if err := l.make(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// make makes the template of all servers.
func (l *Lab) make() error {
	err := errors.Join(l.Write(l.Path("password"), Password+"\n"), l.Write(l.Passfile(), "*:*:*:"+role+":"+Password+"\n"))
	if err != nil {
		return err
	}
	_, err = l.Run(context.Background(), "initdb", "-D", l.Path("template"), "-U", role, "--pwfile", l.Path("password"), "-A", "scram-sha-256",
		"--no-instructions", "--no-sync", "--data-checksums", "-E", "UTF8", "--locale", "C")
	if err != nil {
		return err
	}
	return appendTo(l.Path("template", "postgresql.conf"), "listen_addresses='127.0.0.1'\nunix_socket_directories=''\nshared_buffers=16MB\n"+
		"max_wal_size=512MB\nmax_slot_wal_keep_size=4GB\ndynamic_shared_memory_type=mmap\n")
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// UserName is the name of the user that a credential stands for.
func UserName(c *syscall.Credential) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(c.Uid), 10))
	if err != nil {
		return strconv.FormatUint(uint64(c.Uid), 10)
	}
	return u.Username
}

// Passfile holds the lab's password in libpq's format.
func (l *Lab) Passfile() string { return l.Path("pgpass") }

// Run runs one of PostgreSQL's programs as the lab's user.
func (l *Lab) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.Bin, name), args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "PGPASSFILE=" + l.Passfile()}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: l.As}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Primary makes the place of a server from the lab's template. A second one is a
// copy of the first as it was before its first start, so it can follow it.
func (l *Lab) Primary(name string) (*Node, error) {
	n, err := l.node(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("cp", "-a", l.Path("template"), n.Data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy template: %w: %s", err, out)
	}
	return n, nil
}

// Standby copies a running server.
func (l *Lab) Standby(ctx context.Context, name string, of *Node) (*Node, error) {
	n, err := l.node(name)
	if err != nil {
		return nil, err
	}
	_, err = l.Run(ctx, "pg_basebackup", "-D", n.Data, "-d", of.DSN(), "-c", "fast", "--no-sync", "-X", "stream")
	return n, err
}

func (l *Lab) node(name string) (*Node, error) {
	dir := l.Path(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := l.Port()
	if err != nil {
		return nil, err
	}
	n := &Node{Lab: l, Name: name, Data: filepath.Join(dir, "data"), State: filepath.Join(dir, "state"), Port: port}
	l.Add((*ended)(n))
	return n, l.Own(dir)
}

// Address is where the node's server listens.
func (n *Node) Address() string { return fmt.Sprintf("127.0.0.1:%d", n.Port) }

// DSN is how its superuser connects.
func (n *Node) DSN() string { return n.connect() + n.words() }

// connect is the same without what is said of encryption.
func (n *Node) connect() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres %s", n.Port, n.Lab.login())
}

func (n *Node) words() string {
	if n.tls == nil {
		return plain
	}
	return n.tls.Conninfo()
}

// Replicate is how the lab's servers connect to each other, where they do not
// encrypt.
func (l *Lab) Replicate() string { return l.login() + plain }

func (l *Lab) login() string { return "user=" + role + " passfile=" + l.Passfile() }

const plain = " sslmode=disable"

// Config drives the node's server; the others are its standbys.
func (n *Node) Config(others ...string) postgres.Config {
	c := postgres.Config{
		Name: n.Name, Data: n.Data, State: n.State, Bin: n.Lab.Bin, As: n.Lab.As, Standbys: others, TLS: n.tls, MinFree: 1,
		Connect: n.connect(), Replicate: n.Lab.login(), Options: append([]string{fmt.Sprintf("port=%d", n.Port)}, n.options...),
	}
	if n.tls == nil {
		c.Connect, c.Replicate = n.DSN(), n.Lab.Replicate()
	}
	return c
}

// PID is the process id of the node's server, 0 when it does not run.
func (n *Node) PID() int { return lab.PID(filepath.Join(n.Data, "postmaster.pid"), "postgres") }

// Kill ends the node's server without any shutdown and waits for its end.
func (n *Node) Kill() {
	if pid := n.PID(); pid != 0 {
		lab.End(pid, func() bool { return n.PID() == 0 }, syscall.SIGQUIT, syscall.SIGCONT)
	}
}

// ended is a node that is not started again.
type ended Node

// Kill ends the server and removes the shared memory segment that a killed one
// leaves; its next start would.
func (e *ended) Kill() {
	n := (*Node)(e)
	n.Kill()
	raw, err := os.ReadFile(filepath.Join(n.Data, "postmaster.pid"))
	if err != nil {
		return // it ended in order
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) < 7 {
		return
	}
	if f := strings.Fields(lines[6]); len(f) == 2 {
		if id, err := strconv.Atoi(f[1]); err == nil {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // gone already, perhaps
		}
	}
}
