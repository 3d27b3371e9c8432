package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
)

// tenfold is one agent beside instances of many services, which only exist as answers of the driver contract.
type tenfold struct {
	cmd  *exec.Cmd
	fake *http.Server
}

const (
	nameTenfold = "agent-bench"
	logTail     = 2048 // bytes of its log that an error shows
)

// startAgent starts it in west and returns when the gateways know all its instances to be ready.
func startAgent(ctx context.Context, o options, site *demo.Site) (_ *tenfold, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tenfold{fake: &http.Server{Handler: http.HandlerFunc(answer)}}
	go func() { _ = t.fake.Serve(listener) }() // it ends with close
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	bundle, err := site.Issue(rpc.RoleAgent, demo.West, nameTenfold)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(site.Dir(), nameTenfold+".yaml")
	gossip, err := site.FreePort()
	if err != nil {
		return nil, err
	}
	text := agentConfig(site.Dir(), bundle, listener.Addr().String(), gossip)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(site.Dir(), nameTenfold+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	t.cmd = exec.Command(o.binaries.Signalbox, "agent", "run", "--config", config)
	t.cmd.Stdout, t.cmd.Stderr = log, log
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, demo.StartWithin)
	defer cancel()
	err = demo.Await(waiting, "the instances of "+nameTenfold, func(ctx context.Context) error { return known(ctx, site) })
	if err != nil {
		text, _ := os.ReadFile(log.Name()) // for the message only
		err = fmt.Errorf("%w; its log ends: %s", err, text[max(0, len(text)-logTail):])
	}
	return t, err
}

func agentConfig(dir, bundle, base string, gossip int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "bundle: %q\nstate: %q\ngossip:\n  listen: 127.0.0.1:%d\ninstances:\n", bundle, filepath.Join(dir, nameTenfold), gossip)
	for n := range fewServices {
		service := demo.ExtraService(n)
		fmt.Fprintf(&b, "  - service: %s\n    name: %s-west-1\n    address: 127.0.0.1:%d\n    driver: http\n    base: http://%s/%s\n",
			service, service, n+1, base, service) // nobody is ever sent there
	}
	return b.String()
}

// answer is an instance that is ready, and not master.
func answer(w http.ResponseWriter, r *http.Request) {
	service := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")[0]
	_, _ = io.WriteString(w, `{"ready":true,"master":false,"drained":true,"run":"`+service+`"}`) // the agent asks again
}

func known(ctx context.Context, site *demo.Site) error {
	for n := range fewServices {
		service := demo.ExtraService(n)
		list, err := site.API().Instances(ctx, service)
		if err != nil {
			return err
		}
		if !ready(list) {
			return fmt.Errorf("%s has no ready instance: %+v", service, list)
		}
	}
	return nil
}

func ready(list []api.Instance) bool {
	for _, in := range list {
		if in.Ready {
			return true
		}
	}
	return false
}

func (t *tenfold) pid() int { return t.cmd.Process.Pid }

func (t *tenfold) close() {
	_ = t.fake.Close()
	if t.cmd != nil && t.cmd.Process != nil {
		_ = t.cmd.Process.Kill() // it may be gone already
		_ = t.cmd.Wait()
	}
}
