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
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
	"github.com/signalbox-io/signalbox/rpc/ports"
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
	Dir    string
	Server string // the program
	As     *warden.User

	ports *ports.Block
	mu    sync.Mutex // guards nodes
	nodes []*Node
}

// Node is one server's place; the server need not run.
type Node struct {
	Lab  *Lab
	Name string
	Dir  string // its data and configuration file
	Port int
}

// Memory is a directory that lies in memory where the machine has one, "" else:
// for tests, which create many servers and lose no power.
func Memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// Open makes a lab in a new directory below parent; "" for the system's
// temporary one.
func Open(parent string) (*Lab, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("no redis-server here: make tools (or apt-get install redis-server)")
	}
	dir, err := os.MkdirTemp(parent, "signalbox-redis-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Server: path}
	if l.ports, err = ports.Take(); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if l.As, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	return l, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(l.PasswordFile(), []byte(Password+"\n"), 0o600))
}

// unprivileged finds somebody to run as.
func unprivileged() (*warden.User, error) {
	for _, name := range []string{"redis", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &warden.User{UID: uint32(uid), GID: uint32(gid)}, nil
		}
	}
	return nil, errors.New("no unprivileged user: neither redis nor nobody exist")
}

// PasswordFile holds the lab's password.
func (l *Lab) PasswordFile() string { return filepath.Join(l.Dir, "password") }

// Own gives a path to whom the servers run as.
func (l *Lab) Own(path string) error {
	if l.As == nil {
		return nil
	}
	return os.Chown(path, int(l.As.UID), int(l.As.GID))
}

// Node makes the place of a server. more are lines for its configuration file.
func (l *Lab) Node(name string, more ...string) (*Node, error) {
	dir := filepath.Join(l.Dir, name)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return nil, err
	}
	port, err := l.ports.Ports(1)
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
	if err := os.WriteFile(n.File(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
	return n, errors.Join(l.Own(dir), l.Own(n.File()))
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
	if as := n.Lab.As; as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.UID, Gid: as.GID}}
	}
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
func (n *Node) PID() int {
	raw, err := os.ReadFile(filepath.Join(n.Dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), "redis") {
		return 0
	}
	return pid
}

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
	_ = syscall.Kill(pid, syscall.SIGKILL)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(10 * time.Second); lives(pid); {
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
	_ = os.Remove(filepath.Join(n.Dir, "pid"))
}

// lives reports whether a process was not waited for yet: until then one of its
// threads may still hold its port.
func lives(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// Close ends the lab's servers and removes its directory.
func (l *Lab) Close() error {
	l.mu.Lock()
	nodes := l.nodes
	l.mu.Unlock()
	for _, n := range nodes {
		n.Kill()
	}
	l.ports.Close()
	return os.RemoveAll(l.Dir)
}
