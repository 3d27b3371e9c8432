package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// whole is Signalbox as it is: gateways, agents, journal, signatures, mutual TLS. East's instances use the Go library,
// west's the HTTP driver.
type whole struct {
	site    *demo.Site
	loads   []*demo.Load
	records string // file for cutover records; empty: none
}

// startWhole starts a site with its service adopted in east.
func startWhole(ctx context.Context, o options, of demo.Options) (*whole, error) {
	of.Binaries = o.binaries
	site, err := demo.Start(ctx, of)
	if err != nil {
		return nil, err
	}
	adopting, cancel := context.WithTimeout(ctx, demo.StartWithin)
	defer cancel()
	if err := site.Adopt(adopting, demo.Service, demo.East); err != nil {
		return nil, errors.Join(err, site.Close())
	}
	return &whole{site: site, records: o.records}, nil
}

func (w *whole) cut(ctx context.Context, to string) (cutover, error) {
	h, err := w.site.Switch(ctx, to)
	if err != nil {
		return cutover{}, err
	}
	if err := w.keep(&h); err != nil {
		return cutover{}, err
	}
	c := cutover{id: h.ID, term: h.CertifiedTerm, phases: demo.PhasesOf(&h)}
	hold, ok := demo.HoldOf(&h)
	if c.begin, c.end = hold.Begin, hold.End; !ok || h.Outcome != api.OutcomeForward {
		c.problem = fmt.Sprintf("handover ended as %s: %s", h.Outcome, h.GivenUp)
		to = other(to)
	}
	return c, demo.Await(ctx, "the next switch to be possible", func(ctx context.Context) error {
		return w.site.Steady(ctx, demo.Service, to)
	})
}

func (w *whole) load(rate int, change ...func(*load.Config)) (*demo.Load, error) {
	return w.site.Load(rate, change...)
}

// judge gives the oracle all loads of the site so far: its write logs hold them all.
func (w *whole) judge(ctx context.Context, loads []*demo.Load) (oracle.Verdict, error) {
	w.loads = append(w.loads, loads...)
	return w.site.Judge(ctx, w.loads...)
}

func (w *whole) close() error { return w.site.Close() }

// keep appends a record to the file for them.
func (w *whole) keep(h *api.Handover) error {
	if w.records == "" {
		return nil
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(w.records, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
