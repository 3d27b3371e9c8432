// Package redistest makes throwaway Redis servers on loopback, for tests, the
// demo and the benchmarks. They run as an unprivileged user where the caller is
// root, and take no default user: the driver's role may do what the
// documentation lists and nothing else, clients have one of their own.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed/lab"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// The users of every lab's servers, and what the driver's may do.
const (
	Role     = "signalbox"
	Client   = "app"
	Password = "interlock"
	// Rules are the driver's rights as the documentation lists them.
	Rules = "resetchannels -@all +info +config|get +config|set +config|rewrite +client|pause +client|unpause +client|kill +client|setname +replicaof +pubsub|numsub +psync +replconf +ping +hello"
)

// Lab is a directory with servers in it.
type Lab struct {
	*lab.Lab
	Server string       // the program
	As     *warden.User // whom the servers run as; nil: as this process
}

// Node is one server's place; the server need not run.
type Node struct {
	Lab  *Lab
	Name string
	Dir  string // its data and configuration file
	Port int
}

// Memory is a directory that lies in memory, where the machine has one.
func Memory() string { return lab.Memory() }

// Open makes a lab in a new directory below parent; "" for the system's
// temporary one.
func Open(parent string) (*Lab, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("no redis-server here: make tools (or apt-get install redis-server)")
	}
	base, err := lab.Open(parent, "redis", "redis", "nobody")
	if err != nil {
		return nil, err
	}
	l := &Lab{Lab: base, Server: path, As: warden.As(base.As)}
	if err := os.WriteFile(l.PasswordFile(), []byte(Password+"\n"), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// PasswordFile holds the lab's password.
func (l *Lab) PasswordFile() string { return l.Path("password") }

// Node makes the place of a server. more are lines for its configuration file.
func (l *Lab) Node(name string, more ...string) (*Node, error) {
	dir := l.Path(name)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return nil, err
	}
	port, err := l.Port()
	if err != nil {
		return nil, err
	}
	n := &Node{Lab: l, Name: name, Dir: dir, Port: port}
	lines := []string{
		"bind 127.0.0.1", "port " + strconv.Itoa(port), "dir " + dir, "pidfile " + filepath.Join(dir, "pid"), "logfile " + filepath.Join(dir, "log"),
		"appendonly yes", "appendfsync everysec", "repl-diskless-sync-delay 0", "enable-debug-command yes",
		"user default off", "user " + Role + " on >" + Password + " " + Rules, "user " + Client + " on >" + Password + " ~* &* +@all",
	}
	text := strings.Join(append(lines, more...), "\n") + "\n"
	l.Add(n)
	return n, errors.Join(l.Own(dir), l.Write(n.File(), text))
}

// File is the node's configuration file.
func (n *Node) File() string { return filepath.Join(n.Dir, "redis.conf") }

// Address is where the node's server listens.
func (n *Node) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port)) }

// Login is the driver's.
func (l *Lab) Login() redis.Login { return redis.Login{User: Role, PasswordFile: l.PasswordFile()} }

// Config drives the node's server.
func (n *Node) Config(state string, w *warden.Client, replicas int) redis.Config {
	return redis.Config{
		Name: n.Name, Address: n.Address(), File: n.File(), State: state, Server: n.Lab.Server, Login: n.Lab.Login(),
		Replicas: replicas, MinFree: 1, As: n.Lab.As, Warden: w,
	}
}

// Start runs the server as it would without Signalbox, until Kill.
func (n *Node) Start(args ...string) error {
	cmd := exec.Command(n.Lab.Server, append([]string{n.File()}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.Lab.Lab.As}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // ends with Kill
	return nil
}

// Open is a client of the node's server, which tries nothing twice.
func (n *Node) Open() *goredis.Client { return ClientOf(n.Address()) }

// ClientOf is a client of the server behind an address.
func ClientOf(address string) *goredis.Client {
	return goredis.NewClient(&goredis.Options{
		Addr: address, Username: Client, Password: Password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 2,
		DialTimeout: 30 * time.Second, ReadTimeout: 30 * time.Second, ContextTimeoutEnabled: true,
	})
}

// Up waits until the server answers clients.
func (n *Node) Up(ctx context.Context) error {
	c := n.Open()
	defer c.Close()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", n.Name, ctx.Err(), err)
		}
	}
}

// PID is the process id of the node's server, 0 when it does not run.
func (n *Node) PID() int { return lab.PID(filepath.Join(n.Dir, "pid"), "redis") }

// Signal sends the node's server a signal.
func (n *Node) Signal(s syscall.Signal) {
	if pid := n.PID(); pid != 0 {
		_ = syscall.Kill(pid, s)
	}
}

// Kill ends the node's server without any shutdown and waits for its end.
func (n *Node) Kill() {
	pid := n.PID()
	if pid == 0 {
		return
	}
	lab.End(pid, func() bool { return !lives(pid) }, syscall.SIGKILL)
	_ = os.Remove(filepath.Join(n.Dir, "pid"))
}

// lives reports whether a process was not waited for yet: until then one of its
// threads may still hold its port.
func lives(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}
