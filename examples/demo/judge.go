package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// A Load is load that runs against the site's Envoys.
type Load struct {
	*load.Generator
	site   *Site
	begin  int64 // raw CLOCK_MONOTONIC, ns
	path   string
	cancel context.CancelFunc
	done   chan error
}

// Targets are the site's Envoys as the load generator takes them.
func (s *Site) Targets() (out []load.Target) {
	for _, e := range s.envoys {
		out = append(out, load.Target{Name: e.Name, URL: "http://" + e.Listener})
	}
	return out
}

// Load starts the demo's mix at rate requests per second, over all Envoys, until Stop. change may alter it.
func (s *Site) Load(rate int, change ...func(*load.Config)) (*Load, error) {
	config := load.Default(rate, s.Targets()...)
	for _, f := range change {
		f(&config)
	}
	g, err := load.New(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{
		Generator: g, site: s, begin: load.Now(), cancel: cancel, done: make(chan error, 1),
		path: filepath.Join(s.dir, dirLogs, "load-"+config.Prefix+".jsonl"),
	}
	go func() { l.done <- g.Run(ctx) }()
	return l, nil
}

// Stop ends the load, waits for what is in flight and writes the log.
func (l *Load) Stop() error {
	l.cancel()
	err := <-l.done
	l.done <- nil // a second Stop finds it over
	file, openErr := os.Create(l.path)
	if openErr != nil {
		return errors.Join(err, fmt.Errorf("write load log: %w", openErr))
	}
	buffered := bufio.NewWriter(file)
	return errors.Join(err, l.WriteLog(buffered), buffered.Flush(), file.Close())
}

// Window is the whole load with the holds of these handovers.
func (l *Load) Window(handovers ...api.Handover) load.Window {
	w := load.Window{Begin: l.begin}
	for i := range handovers {
		if hold, ok := HoldOf(&handovers[i]); ok {
			w.Holds = append(w.Holds, hold)
		}
	}
	return w
}

// HoldOf is when a handover held requests, from its record's phases: from the begin of the hold to the end of the
// release. False when it held none. Both clocks are of this machine.
func HoldOf(h *api.Handover) (load.Hold, bool) {
	offset := load.Now() - time.Now().UnixNano()
	at := func(ms float64) int64 { return h.Started.UnixNano() + int64(ms*float64(time.Millisecond)) + offset }
	hold := load.Hold{ID: h.ID, Term: h.CertifiedTerm}
	for _, p := range h.Phases {
		switch {
		case p.Name == api.PhaseHold:
			hold.Begin = at(p.BeginMS)
		case p.Name == api.PhaseRelease && p.EndMS != nil:
			hold.End = at(*p.EndMS)
		}
	}
	return hold, hold.Begin != 0 && hold.End >= hold.Begin
}

// Judge hands the instances' write logs, the loads' logs and what was certified to the oracle. The loads are stopped.
func (s *Site) Judge(ctx context.Context, loads ...*Load) (oracle.Verdict, error) {
	return s.judge(ctx, false, loads...)
}

// JudgeLenient is Judge where requests may go unanswered, because what clients talk to was killed.
func (s *Site) JudgeLenient(ctx context.Context, loads ...*Load) (oracle.Verdict, error) {
	return s.judge(ctx, true, loads...)
}

// JudgeAlone is Judge without what was certified, for a bare site.
func (s *Site) JudgeAlone(loads ...*Load) (oracle.Verdict, error) {
	return s.verdict(false, nil, loads)
}

func (s *Site) judge(ctx context.Context, lenient bool, loads ...*Load) (oracle.Verdict, error) {
	all, err := s.certified(ctx)
	if err != nil {
		return oracle.Verdict{}, err
	}
	return s.verdict(lenient, all, loads)
}

// Recorded is the history that Judge looks at, for whoever looks at it in another way.
func (s *Site) Recorded(ctx context.Context, loads ...*Load) (oracle.History, error) {
	all, err := s.certified(ctx)
	if err != nil {
		return oracle.History{}, err
	}
	return s.history(all, loads)
}

// certified lists whose each term was.
func (s *Site) certified(ctx context.Context) ([]oracle.Certified, error) {
	records, err := s.client.Handovers(ctx, Service, maxHistory)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	all := slices.Clone(s.adopted)
	s.mu.Unlock()
	for i := range records {
		if c, ok := certified(&records[i]); ok && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all, nil
}

func (s *Site) verdict(lenient bool, certified []oracle.Certified, loads []*Load) (oracle.Verdict, error) {
	history, err := s.history(certified, loads)
	if err != nil {
		return oracle.Verdict{}, err
	}
	history.AllowUnanswered = lenient
	return oracle.Judge(history), nil
}

func (s *Site) history(certified []oracle.Certified, loads []*Load) (oracle.History, error) {
	files := oracle.Files{WriteLogs: s.WriteLogs(), Certified: certified}
	for _, l := range loads {
		files.LoadLogs = append(files.LoadLogs, l.path)
	}
	return oracle.Read(files)
}

// maxHistory is how many handovers of one run are judged.
const maxHistory = 10_000

// certified says whose the term of a record is.
func certified(h *api.Handover) (oracle.Certified, bool) {
	c := oracle.Certified{Service: h.Service, Term: h.CertifiedTerm, DataCenter: h.To}
	if h.Outcome == api.OutcomeFallback {
		c.DataCenter = h.From
	}
	return c, h.CertifiedTerm != 0
}
