// Package pgtest makes throwaway PostgreSQL servers on loopback, for tests, the
// demo and the benchmarks: a primary from one initdb, standbys copied from it.
// They run as an unprivileged user, since PostgreSQL refuses root.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// Password is that of every lab's role.
const Password = "interlock"

// role is the superuser of every lab.
const role = "signalbox"

// Lab is a directory with servers in it.
type Lab struct {
	Dir string
	Bin string
	As  *syscall.Credential // nil: as this process

	mu    sync.Mutex // guards nodes
	nodes []*Node
}

// Node is one server's place; the server need not run.
type Node struct {
	Lab   *Lab
	Name  string
	Data  string
	State string
	Port  int
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

// Memory is a directory that lies in memory where the machine has one, "" else:
// for tests, which create many servers and lose no power.
func Memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// Open makes a lab in a new directory below parent ("" for the system's
// temporary one) and runs initdb once; Primary copies what it made.
func Open(parent string) (*Lab, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "signalbox-pg-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Bin: bin}
	if os.Geteuid() == 0 {
		if l.As, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	if err := l.own(dir); err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.path("password"), []byte(Password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.Passfile(), []byte("*:*:*:"+role+":"+Password+"\n"), 0o600); err != nil {
		return nil, err
	}
	for _, name := range []string{"password", "pgpass"} {
		if err := l.own(l.path(name)); err != nil {
			return nil, err
		}
	}
	_, err = l.Run(context.Background(), "initdb", "-D", l.path("template"), "-U", role, "--pwfile", l.path("password"), "-A", "scram-sha-256",
		"--no-instructions", "--no-sync", "--data-checksums", "-E", "UTF8", "--locale", "C")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, l.configure()
}

// configure writes what the lab's servers have in common.
func (l *Lab) configure() error {
	conf := "listen_addresses='127.0.0.1'\nunix_socket_directories=''\nshared_buffers=16MB\nmax_wal_size=512MB\nmax_slot_wal_keep_size=4GB\ndynamic_shared_memory_type=mmap\n"
	f, err := os.OpenFile(l.path("template", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(conf)
	return errors.Join(err, f.Close())
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}, nil
		}
	}
	return nil, errors.New("no unprivileged user: PostgreSQL refuses to run as root, and neither postgres nor nobody exist")
}

// UserName is the name of the user that a credential stands for.
func UserName(c *syscall.Credential) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(c.Uid), 10))
	if err != nil {
		return strconv.FormatUint(uint64(c.Uid), 10)
	}
	return u.Username
}

func (l *Lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.Dir}, elements...)...)
}

// Passfile holds the lab's password in libpq's format.
func (l *Lab) Passfile() string { return l.path("pgpass") }

func (l *Lab) own(path string) error {
	if l.As == nil {
		return nil
	}
	return os.Chown(path, int(l.As.Uid), int(l.As.Gid))
}

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
	cmd := exec.Command("cp", "-a", l.path("template"), n.Data)
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
	dir := l.path(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &Node{Lab: l, Name: name, Data: filepath.Join(dir, "data"), State: filepath.Join(dir, "state"), Port: port}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
	return n, l.own(dir)
}

// FreePort is a TCP port of loopback that nobody listened on just now.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Address is where the node's server listens.
func (n *Node) Address() string { return fmt.Sprintf("127.0.0.1:%d", n.Port) }

// DSN is how its superuser connects.
func (n *Node) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres %s", n.Port, n.Lab.Replicate())
}

// Replicate is how the lab's servers connect to each other.
func (l *Lab) Replicate() string {
	return "user=" + role + " passfile=" + l.Passfile() + " sslmode=disable"
}

// Config drives the node's server; the others are its standbys.
func (n *Node) Config(others ...string) postgres.Config {
	return postgres.Config{
		Name: n.Name, Data: n.Data, State: n.State, Bin: n.Lab.Bin, As: n.Lab.As, Standbys: others,
		Connect: n.DSN(), Replicate: n.Lab.Replicate(), Options: []string{fmt.Sprintf("port=%d", n.Port)}, MinFree: 1,
	}
}

// PID is the process id of the node's server, 0 when it does not run.
func (n *Node) PID() int {
	raw, err := os.ReadFile(filepath.Join(n.Data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(raw), "\n", 2)[0]))
	if err != nil || pid <= 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || strings.Contains(string(stat), ") Z ") { // gone, and only not waited for yet
		return 0
	}
	return pid
}

// Kill ends the node's server without any shutdown and waits for its end.
func (n *Node) Kill() {
	pid := n.PID()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT)
	_ = syscall.Kill(pid, syscall.SIGCONT)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); n.PID() != 0 && time.Now().Before(end); {
		<-tick.C
	}
}

// removeShared removes the shared memory segment that a killed server leaves; its
// next start would.
func (n *Node) removeShared() {
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

// Close ends the lab's servers and removes its directory.
func (l *Lab) Close() error {
	l.mu.Lock()
	nodes := l.nodes
	l.mu.Unlock()
	for _, n := range nodes {
		n.Kill()
		n.removeShared()
	}
	return os.RemoveAll(l.Dir)
}
