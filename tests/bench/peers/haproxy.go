package peers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// maxSocketPath is what sockaddr_un and HAProxy's own temporary suffix leave for the path of a socket, in bytes.
const maxSocketPath = 90

// maxReply bounds what is read from the runtime socket, in bytes.
const maxReply = 1 << 20

// haproxy is one HAProxy and its runtime socket.
type haproxy struct {
	*process
	address string
	socket  string
	// commands are what a switch sends, one connection each, as `echo ... | socat` would.
	// A real script also starts two processes for each; that time is left out, in the peer's favour.
	commands func(to string) []string
}

func startMap(ctx context.Context, o Options) (Peer, error) {
	return startFleet(ctx, o, func(ctx context.Context, p prepared, index int) (proxy, error) {
		file := filepath.Join(p.dir, fmt.Sprintf("master-%d.map", index))
		if err := os.WriteFile(file, []byte("orders "+East+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("write map: %w", err)
		}
		routing := fmt.Sprintf("  use_backend %%[str(orders),map(%s)]\n\n", file)
		for _, dc := range []string{East, West} {
			routing += fmt.Sprintf("backend %s\n%s\n", dc, servers(dc, p.addresses[dc], ""))
		}
		return startHAProxy(ctx, p, index, routing, func(to string) []string {
			return []string{fmt.Sprintf("set map %s orders %s", file, to)}
		})
	})
}

func startDisableFirst(ctx context.Context, o Options) (Peer, error) {
	return startScript(ctx, o, func(p prepared, to string) []string {
		return []string{each("disable", p, other(to)), each("enable", p, to)}
	})
}

func startEnableFirst(ctx context.Context, o Options) (Peer, error) {
	return startScript(ctx, o, func(p prepared, to string) []string {
		return []string{each("enable", p, to), each("disable", p, other(to))}
	})
}

// startScript runs HAProxy with the servers of both data centers in one backend, the standby's disabled.
func startScript(ctx context.Context, o Options, commands func(p prepared, to string) []string) (Peer, error) {
	return startFleet(ctx, o, func(ctx context.Context, p prepared, index int) (proxy, error) {
		routing := "  default_backend orders\n\nbackend orders\n" +
			servers(East, p.addresses[East], "") + servers(West, p.addresses[West], " disabled")
		return startHAProxy(ctx, p, index, routing, func(to string) []string { return commands(p, to) })
	})
}

// each is one line that enables or disables all servers of a data center.
func each(verb string, p prepared, dc string) string {
	var all []string
	for i := range p.addresses[dc] {
		all = append(all, fmt.Sprintf("%s server orders/%s-%d", verb, dc, i+1))
	}
	return strings.Join(all, "; ")
}

func servers(dc string, addresses []string, state string) string {
	var b strings.Builder
	for i, address := range addresses {
		fmt.Fprintf(&b, "  server %s-%d %s%s\n", dc, i+1, address, state)
	}
	return b.String()
}

// startHAProxy runs one HAProxy; routing is the rest of its frontend, and its backends.
func startHAProxy(ctx context.Context, p prepared, index int, routing string, commands func(to string) []string) (proxy, error) {
	h := &haproxy{socket: filepath.Join(p.dir, fmt.Sprintf("%d.sock", index)), commands: commands}
	if len(h.socket) > maxSocketPath {
		return nil, fmt.Errorf("place runtime socket: %q is longer than %d bytes, choose a shorter Dir", h.socket, maxSocketPath)
	}
	binary, err := haproxyBinary()
	if err != nil {
		return nil, err
	}
	listener, address, err := listen(p.Ports[index])
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	h.address = address
	config := fmt.Sprintf(`global
  nbthread %d
  maxconn 4000
  stats socket %s mode 600 level admin

defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s

frontend in
  bind fd@3
%s`, p.Workers, h.socket, routing)
	file := filepath.Join(p.dir, fmt.Sprintf("haproxy-%d.cfg", index))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	cmd := exec.Command(binary, "-db", "-f", file)
	cmd.ExtraFiles = []*os.File{listener} // the child's descriptor 3
	if h.process, err = startProcess(p.dir, fmt.Sprintf("haproxy-%d", index), cmd); err != nil {
		return nil, err
	}
	err = h.until(ctx, "HAProxy", func(ctx context.Context) error {
		_, err := h.ask(ctx, "show info")
		return err
	})
	if err != nil {
		_ = h.stop() // the first error says more
		return nil, err
	}
	return h, nil
}

// haproxyBinary looks in sbin as well: that is where Debian has it, and it is on root's PATH only.
func haproxyBinary() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("find haproxy: %w (make tools says what to install)", exec.ErrNotFound)
}

func (h *haproxy) url() string { return "http://" + h.address }

// turn sends the switch's commands one after the other. HAProxy answers a command that did its work with an empty line.
func (h *haproxy) turn(ctx context.Context, to string) error {
	for _, command := range h.commands(to) {
		reply, err := h.ask(ctx, command)
		if err != nil {
			return err
		}
		if reply = strings.TrimSpace(reply); reply != "" {
			return fmt.Errorf("run %q: %s", command, reply)
		}
	}
	return nil
}

// ask sends one line to the runtime socket and returns the answer.
func (h *haproxy) ask(ctx context.Context, line string) (string, error) {
	dialer := net.Dialer{Timeout: dialLimit}
	conn, err := dialer.DialContext(ctx, "unix", h.socket)
	if err != nil {
		return "", fmt.Errorf("dial runtime socket: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialLimit)); err != nil {
		return "", fmt.Errorf("set deadline: %w", err)
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", fmt.Errorf("send %q: %w", line, err)
	}
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply))
	if err != nil {
		return "", fmt.Errorf("read answer to %q: %w", line, err)
	}
	return string(reply), nil
}
