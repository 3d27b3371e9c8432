package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// blockedService is configured with a listener on a port that somebody else has.
const blockedService = "blocked"

// block takes a port that no Envoy can listen on.
func block(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// Rule: what an Envoy rejects is shown in its own words, and one that rejected another service's listener still follows
// the switches of this one.
func testRejectedConfiguration(t *testing.T, f *fixture) {
	e, err := f.AddEnvoy(demo.East, "envoy-east-own", nil)
	must(t, err)
	defer func() { must(t, f.Down(e.Name, syscall.SIGKILL)) }()
	eventually(t, "the rejection to be shown", func(context.Context) error {
		code, out, errs := f.command(t, "proxy", "list")
		if code != 0 || !strings.Contains(out, "cannot bind") {
			return fmt.Errorf("exit code %d\n%s%s", code, out, errs)
		}
		return nil
	})
	master, _ := f.master(t)
	f.steady(t, master)
	f.thereAndBack(t)
}

// Rule: a certificate of another cluster, an agent's with another CA, and a proxy with another's node id are refused;
// nothing crashes, and who belongs here is not disturbed.
func testStrangers(t *testing.T, f *fixture) {
	l := f.load(t)
	spec := identity.Spec{Cluster: "demo"}
	for _, dc := range demo.DataCenters() {
		d := identity.DataCenter{Name: dataCenter(dc)}
		for _, g := range f.Gateways() {
			if g.DataCenter == dc {
				d.Gateways = append(d.Gateways, g.Gateway)
			}
		}
		spec.DataCenters = append(spec.DataCenters, d)
	}
	keys, err := identity.Init(t.TempDir()+"/keys", spec, time.Now())
	must(t, err)
	stranger := rpc.Principal{Cluster: "demo", Role: rpc.RoleAgent, DataCenter: dataCenter(demo.West), Name: "stranger"}
	must(t, keys.Issue(stranger, keys.BundleDir(stranger), identity.IssueOptions{Now: time.Now()}))
	nobody := demo.Instance{Name: "orders-west-9", DataCenter: demo.West, Address: "127.0.0.1:1", Control: "127.0.0.1:1"}
	must(t, f.AddAgent(demo.Service, "stranger", keys.BundleDir(stranger), nobody))
	defer func() { must(t, f.Down("stranger", syscall.SIGKILL)) }()
	thief, err := f.AddEnvoy(demo.East, "envoy-east-thief", func(o *resource.BootstrapOptions) { o.Name = f.Envoys()[0].Name })
	must(t, err)
	defer func() { must(t, f.Down(thief.Name, syscall.SIGKILL)) }()

	eventually(t, "the agent to be refused", func(context.Context) error {
		return contains(f.LogTail("stranger"), "certificate")
	})
	eventually(t, "the proxy to be refused", func(context.Context) error {
		var all string
		for _, g := range f.Gateways() {
			all += f.LogTail(g.Name)
		}
		return contains(all, "refused proxy")
	})
	eventually(t, "the refusal to be counted", func(ctx context.Context) error { return f.counted(ctx, "refused") })
	f.thereAndBack(t)
	list, err := f.API().Instances(within(t), demo.Service)
	must(t, err)
	for _, in := range list {
		if in.Name == nobody.Name {
			t.Errorf("the stranger is an instance: %+v", in)
		}
	}
	for _, name := range append([]string{"stranger"}, gatewayNames(f)...) {
		if f.Pid(name) == 0 {
			t.Errorf("%s does not run any more", name)
		}
	}
	unharmed(t, l)
}

func dataCenter(dc string) signalbox.DataCenter { return signalbox.DataCenter(dc) }

func gatewayNames(f *fixture) (names []string) {
	for _, g := range f.Gateways() {
		names = append(names, g.Name)
	}
	return names
}

func contains(text, want string) error {
	if !strings.Contains(text, want) {
		return fmt.Errorf("no %q in:\n%s", want, text)
	}
	return nil
}

// counted: a metric of some gateway that has this in its name is not 0.
func (f *fixture) counted(ctx context.Context, part string) error {
	for _, g := range f.Gateways() {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Metrics+"/metrics", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !strings.HasPrefix(line, "#") && strings.Contains(name, part) && value != "0" && strings.HasPrefix(name, "signalbox") {
				return nil
			}
		}
	}
	return errors.New("no gateway counts it")
}
