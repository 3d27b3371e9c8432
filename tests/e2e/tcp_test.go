package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/oracle"
	"github.com/signalbox-io/signalbox/tests/register"
)

// linesService is a TCP service with one instance in each data center.
const linesService = "lines"

// startLine runs an instance of it, with an agent beside it.
func startLine(t *testing.T, f *fixture, dc string) demo.Instance {
	t.Helper()
	address := func() string {
		port, err := f.FreePort()
		must(t, err)
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	in := demo.Instance{Name: "lines-" + dc + "-1", DataCenter: dc, Address: address(), Control: address(), WriteLog: filepath.Join(f.Dir(), "lines-"+dc+".jsonl")}
	text, err := json.Marshal(lineConfig{in.Address, in.Control, linesService, in.Name, dc, in.WriteLog})
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	must(t, f.AddProcess(in.Name, self, lineCommand, string(text)))
	must(t, f.AddAgent(linesService, "agent-"+in.Name, "", in))
	return in
}

// caller is one connection to the service.
type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(address string) (*caller, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience)) // of a connection that was just made
	return &caller{c, bufio.NewReader(c)}, nil
}

// ask sends one line and reads its answer: "id instance term".
func (c *caller) ask(id, slow string) (instance string, term uint64, err error) {
	if _, err := fmt.Fprintf(c, "%s %s\n", id, slow); err != nil {
		return "", 0, err
	}
	reply, err := c.lines.ReadString('\n')
	if err != nil {
		return "", 0, err
	}
	var echoed string
	if _, err := fmt.Sscanf(reply, "%s %s %d", &echoed, &instance, &term); err != nil || echoed != id {
		return "", 0, fmt.Errorf("asked %q, answered %q", id, reply)
	}
	return instance, term, nil
}

// lineLoad makes lines over new connections and over ones that last, and remembers each as the oracle wants it.
type lineLoad struct {
	address string
	stop    context.CancelFunc
	all     sync.WaitGroup
	next    atomic.Int64
	cut     atomic.Int64 // lasting connections that their instance closed

	mu       sync.Mutex
	requests []oracle.Request
}

func loadLines(t *testing.T, address string) *lineLoad {
	l := &lineLoad{address: address}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(t.Context())
	for range 4 {
		l.all.Go(func() { l.short(ctx) })
	}
	for range 2 {
		l.all.Go(func() { l.lasting(ctx) })
	}
	t.Cleanup(func() { l.stop(); l.all.Wait() })
	return l
}

func (l *lineLoad) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.requests)
}

// record makes one request of ask and remembers it.
func (l *lineLoad) record(ask func(id string) (string, uint64, error)) {
	r := oracle.Request{ID: fmt.Sprintf("line-%d", l.next.Add(1)), Method: "POST", Begin: load.Now()}
	var err error
	if r.Instance, r.Term, err = ask(r.ID); err != nil {
		r.Error = err.Error()
	} else {
		r.Status = 201
	}
	r.End = load.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

// once asks over a connection of its own.
func (l *lineLoad) once(id, slow string) (string, uint64, error) {
	c, err := call(l.address)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	return c.ask(id, slow)
}

func (l *lineLoad) short(ctx context.Context) {
	pace := time.NewTicker(15 * time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		<-pace.C
		l.record(func(id string) (string, uint64, error) { return l.once(id, "") })
	}
}

// lasting asks over one connection until its instance closes it. A line that was not answered then was not read, and is
// sent again, as clients of such services do.
func (l *lineLoad) lasting(ctx context.Context) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	var c *caller
	for ctx.Err() == nil {
		<-pace.C
		l.record(func(id string) (instance string, term uint64, err error) {
			if c != nil {
				_ = c.SetDeadline(time.Now().Add(patience)) // a closed one says so below
				if instance, term, err = c.ask(id, ""); err == nil {
					return instance, term, nil
				}
				_ = c.Close()
				l.cut.Add(1)
			}
			if c, err = call(l.address); err != nil {
				return "", 0, err
			}
			return c.ask(id, "")
		})
	}
	if c != nil {
		_ = c.Close()
	}
}

func (l *lineLoad) goOn(t *testing.T) {
	t.Helper()
	before := l.answered()
	eventually(t, "lines to go on", func(context.Context) error {
		if n := l.answered(); n < before+50 {
			return fmt.Errorf("%d lines, %d before", n, before)
		}
		return nil
	})
}

// closing opens a connection, asks once and tells how it ends.
func (l *lineLoad) closing(t *testing.T) <-chan error {
	t.Helper()
	c, err := call(l.address)
	must(t, err)
	l.record(func(id string) (string, uint64, error) { return c.ask(id, "") })
	ended := make(chan error, 1)
	go func() {
		defer c.Close()
		_, err := c.lines.ReadByte()
		ended <- err
	}()
	return ended
}

// Rule: connections of a TCP service that come during a handover wait and are served after the release, by the new
// master or, when it is given up, by the old one. Those that are there live on until the old master closes them, when
// it steps down, after what has begun on them. No two data centers write at once, and every line is answered once.
func testTCP(t *testing.T, f *fixture) {
	var instances []demo.Instance
	for _, dc := range demo.DataCenters() {
		instances = append(instances, startLine(t, f, dc))
	}
	f.adoptMore(t, linesService)
	f.everyEnvoyHas(t, linesService, 1)
	l := loadLines(t, f.ListenerOf(linesService))
	l.goOn(t)
	for _, to := range []string{demo.West, demo.East} {
		idle := l.closing(t)
		select {
		case err := <-idle:
			t.Errorf("a connection ended before the switch: %v", err)
		default:
		}
		who := l.slowly(t, instances)
		h := f.beginOf(t, linesService, to, unhurried)
		f.reached(t, h.ID, api.StateDraining)
		goOn(t, instances)
		h, err := f.Follow(within(t), h.ID)
		forward(t, h, err)
		if got := <-who; strings.Contains(got, to) {
			t.Errorf("the line that had begun before the switch to %s was answered by %s", to, got)
		}
		if err := <-idle; !errors.Is(err, io.EOF) {
			t.Errorf("the idle connection ended with %v", err)
		}
		l.goOn(t)
	}
	if l.cut.Load() == 0 {
		t.Error("no lasting connection was closed by its old master")
	}
	who := l.slowly(t, instances)
	f.givenUp(t, f.beginOf(t, linesService, demo.West, time.Second).ID)
	goOn(t, instances)
	if got := <-who; !strings.Contains(got, demo.East) {
		t.Errorf("the line that hung was answered by %q", got)
	}
	l.goOn(t)
	l.judge(t, f, instances)
}

// goOn has the instances answer the lines that hang.
func goOn(t *testing.T, instances []demo.Instance) {
	t.Helper()
	for _, in := range instances {
		response, err := http.Post("http://"+in.Control+"/go-on", "", nil)
		must(t, err)
		must(t, response.Body.Close())
	}
}

// slowly asks a line that hangs until goOn and returns when an instance has begun it; the channel has who answered.
func (l *lineLoad) slowly(t *testing.T, instances []demo.Instance) <-chan string {
	t.Helper()
	who := make(chan string, 1)
	go l.record(func(id string) (string, uint64, error) {
		instance, term, err := l.once(id, hangs)
		who <- instance
		return instance, term, err
	})
	eventually(t, "the slow line to be under way", func(ctx context.Context) error {
		slow := 0
		for _, in := range instances {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.Control+"/signalbox/mastership", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			var status struct{ Slow int }
			err = json.NewDecoder(response.Body).Decode(&status)
			_ = response.Body.Close() // it was read
			if slow += status.Slow; err != nil {
				return err
			}
		}
		if slow == 0 {
			return errors.New("none")
		}
		return nil
	})
	return who
}

// judge ends the load and has the oracle look at it.
func (l *lineLoad) judge(t *testing.T, f *fixture, instances []demo.Instance) {
	t.Helper()
	var logs []string
	for _, in := range instances {
		logs = append(logs, in.WriteLog)
	}
	l.stop()
	l.all.Wait()
	history, err := oracle.Read(oracle.Files{WriteLogs: logs})
	must(t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	history.Requests = l.requests
	history.Certified = []oracle.Certified{{Service: linesService, Term: 1, DataCenter: demo.East}}
	records, err := f.API().Handovers(within(t), linesService, 100)
	must(t, err)
	for _, h := range records {
		to := h.To
		if h.Outcome == api.OutcomeFallback {
			to = h.From
		}
		if h.From != "" {
			history.Certified = append(history.Certified, oracle.Certified{Service: linesService, Term: h.CertifiedTerm, DataCenter: to})
		}
	}
	verdict := oracle.Judge(history)
	if !verdict.OK() || verdict.OverlapMs > 0 || verdict.Unanswered > 0 || verdict.Answered == 0 || len(history.Certified) != 4 {
		t.Errorf("the oracle, with %d terms: %+v", len(history.Certified), verdict)
	}
	if one, known := register.Recorded(history, patience); !one && known {
		t.Error("what clients were answered is no one register of who is master")
	}
	t.Logf("%d lines answered, %d lasting connections closed by their old master", verdict.Answered, l.cut.Load())
}
