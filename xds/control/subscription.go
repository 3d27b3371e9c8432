package control

import (
	"fmt"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox/xds/resource"
)

func (st *stream) typeState(typ string) (ts *typeState, first bool) {
	ts = st.types[typ]
	if ts == nil {
		ts, first = &typeState{names: map[string]*nameState{}, pending: map[string]sent{}}, true
		st.types[typ] = ts
	}
	return ts, first
}

// subscribe adds a name. reported is the version that the proxy says it has,
// first that this is the type's first request on the stream.
func (st *stream) subscribe(typ string, ts *typeState, name, reported string, first bool) error {
	service, term, ok := serviceOf(key{st.prof, typ, name})
	if !ok || len(name) > st.s.opts.Limits.NameLength {
		return nil // not a name of ours: it will never exist
	}
	ns := ts.names[name]
	if ns == nil {
		if st.names >= st.s.opts.Limits.NamesPerStream {
			return fmt.Errorf("%w: %d names on one stream", ErrTooMany, st.names)
		}
		e := st.s.entryFor(service)
		if first && reported == "" && term > 0 && e.registered && term+aliasWindow < e.service.OldestTerm {
			return nil
		}
		ns = &nameState{}
		ts.names[name] = ns
		st.names++
		st.s.watch(e, key{st.prof, typ, name}, st)
	} else if !first {
		ns.force = true
	}
	if reported != "" {
		st.report(typ, service, ns, reported)
	}
	st.mark(typ, name)
	return nil
}

// report notes a version that the proxy has from an earlier stream.
func (st *stream) report(typ, service string, ns *nameState, version string) {
	term, rank, ok := resource.ParseVersion(version)
	if !ok {
		return // not ours: answer in full
	}
	ns.version, ns.floor = version, max(ns.floor, rank)
	if routed(typ, term) {
		st.s.acknowledged(st.proxy, service, term)
	}
}

// routed says whether a resource decides where requests go: one that carries
// a term and is not a cluster. That is the route of an HTTP service, the
// listener of a TCP service, the endpoints of a proxyless client.
func routed(typ string, term uint64) bool { return typ != resource.ClusterType && term > 0 }

func (st *stream) forget(typ string, ts *typeState, name string) {
	if _, ok := ts.names[name]; !ok {
		return
	}
	delete(ts.names, name)
	st.names--
	if service, _, ok := serviceOf(key{st.prof, typ, name}); ok {
		if e := st.s.entries[service]; e != nil {
			st.s.unwatch(e, key{st.prof, typ, name}, st)
		}
	}
}

// addListener subscribes a wildcard stream to a service's listener.
func (st *stream) addListener(e *entry) {
	if e.service.Listener == nil {
		return
	}
	ts, _ := st.typeState(resource.ListenerType)
	if _, ok := ts.names[e.name]; !ok {
		if err := st.subscribe(resource.ListenerType, ts, e.name, "", false); err != nil {
			st.s.log.Error().Err(err).Str("proxy", st.proxy.id).Msg("cannot add listener")
		}
	}
}

// mark queues a name to be decided on and wakes the sender.
func (st *stream) mark(typ, name string) {
	ts := st.types[typ]
	ns := ts.names[name]
	if ns == nil || ns.dirty {
		return
	}
	ns.dirty = true
	ts.dirty = append(ts.dirty, name)
	signal(st.wake)
}

// markExpired queues the names below the service's oldest term.
func (st *stream) markExpired(e *entry) {
	if st.prof != envoyProfile {
		return
	}
	ts := st.types[resource.ClusterType]
	if ts == nil || e.service.OldestTerm == 0 {
		return
	}
	for k, streams := range e.watchers {
		if _, mine := streams[st]; !mine || k.typ != resource.ClusterType {
			continue
		}
		if _, term, _ := serviceOf(k); term < e.service.OldestTerm {
			st.mark(k.typ, k.name)
		}
	}
}

// waiting collects the terms whose names the proxy asked for and does not
// have: requests are, or were, parked under them.
func (st *stream) waiting(into map[string][]uint64) {
	if st.prof != envoyProfile {
		return
	}
	ts := st.types[resource.ClusterType]
	if ts == nil {
		return
	}
	for name, ns := range ts.names {
		if service, term, ok := resource.ParseClusterName(name); ok && ns.version == "" {
			if e := st.s.entries[service]; e == nil || term >= e.service.OldestTerm {
				into[service] = append(into[service], term)
			}
		}
	}
}

func (st *stream) nonce() string {
	st.nonces++
	return strconv.FormatUint(st.nonces, 10)
}

// answered handles an ACK or NACK. words is the proxy's complaint, "" for an
// ACK. A nonce that is not pending is an answer to something older: ignored.
func (st *stream) answered(typ string, ts *typeState, nonce string, rejected bool, words string) {
	out, ok := ts.pending[nonce]
	if !ok {
		return
	}
	delete(ts.pending, nonce)
	signal(st.wake) // something may wait for room in pending
	st.s.metrics.ackSeconds.WithLabelValues(typeLabel(typ)).Observe(time.Since(out.at).Seconds())
	if !rejected {
		st.s.metrics.acks.WithLabelValues(typeLabel(typ)).Inc()
	} else if len(out.items) > 1 && st.prof == envoyProfile {
		st.sendAlone(typ, ts, out.items)
		return
	}
	for _, it := range out.items {
		service, _, ok := serviceOf(key{st.prof, typ, it.name})
		switch {
		case !ok || it.removed:
		case rejected:
			st.s.rejected(st.proxy, service, Nack{
				Type: typ, Resource: it.name, Term: it.term, At: out.at,
				Message: trim(words, st.s.opts.Limits.MessageLength),
			})
		case routed(typ, it.term):
			st.s.acknowledged(st.proxy, service, it.term)
		}
	}
}

// sendAlone sends what was rejected together once more, one by one: a proxy
// rejects a response as a whole, and who is to blame must be known.
func (st *stream) sendAlone(typ string, ts *typeState, items []item) {
	for _, it := range items {
		if ns := ts.names[it.name]; ns != nil && !it.removed {
			ns.alone, ns.force = true, true
			st.mark(typ, it.name)
		}
	}
}

func trim(text string, limit int) string { return text[:min(len(text), limit)] }
