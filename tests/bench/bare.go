package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/oracle"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// bare is a site without gateways and agents: its instances obey this process, by the HTTP driver contract. The floor
// and the peers move its traffic.
type bare struct {
	site *demo.Site
	term uint64 // newest that any instance was promoted to
}

// order gives one order of the driver contract to all instances of a data center at once.
func (b *bare) order(ctx context.Context, dc, verb string, term uint64) error {
	body, err := json.Marshal(map[string]any{"service": demo.Service, "term": term})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	var first error
	for _, in := range b.site.Instances() {
		if in.DataCenter != dc {
			continue
		}
		all.Go(func() {
			if err := post(ctx, "http://"+in.Control+"/signalbox/"+verb, body); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = fmt.Errorf("%s %s: %w", verb, in.Name, err)
			}
		})
	}
	all.Wait()
	return first
}

func post(ctx context.Context, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return nil
}

func (b *bare) promote(ctx context.Context, dc string, term uint64) error {
	b.term = max(b.term, term)
	return b.order(ctx, dc, "promote", term)
}

// endpoints are a data center's instances as proxies reach them.
func (b *bare) endpoints(dc string) (out []resource.Endpoint, err error) {
	for _, in := range b.site.Instances() {
		if in.DataCenter != dc {
			continue
		}
		host, port, err := net.SplitHostPort(in.Address)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, err
		}
		out = append(out, resource.Endpoint{Address: host, Port: uint32(n)})
	}
	return out, nil
}

// judge hands the oracle what was written while the loads ran, and nothing of other systems that use the same instances.
func (b *bare) judge(_ context.Context, loads []*demo.Load) (oracle.Verdict, error) {
	all, err := oracle.Read(oracle.Files{WriteLogs: b.site.WriteLogs()})
	if err != nil {
		return oracle.Verdict{}, err
	}
	var h oracle.History
	for _, l := range loads {
		begin, end := int64(0), int64(0)
		for r := range l.Records {
			if begin == 0 {
				begin = r.Sched
			}
			end = max(end, r.End)
			h.Requests = append(h.Requests, request(r))
		}
		for _, w := range all.Writes {
			if w.Begin >= begin && w.Begin <= end {
				h.Writes = append(h.Writes, w)
			}
		}
	}
	return oracle.Judge(h), nil
}

func request(r load.Record) oracle.Request {
	return oracle.Request{
		ID: r.ID, Method: r.Method, Status: r.Status, Error: r.Error, Begin: r.Begin, End: r.End, Instance: r.Instance, Term: r.Term,
	}
}
