package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// Guards: a position survives the way through an ack, fits into it, and nothing
// from the network that is not one is taken for one.
func TestPosition(t *testing.T) {
	for _, p := range []Position{{}, {7711118902370175722, 3, 0x3000148}, {^uint64(0), ^uint32(0), ^LSN(0)}} {
		got, err := ParsePosition(p.Bytes())
		if err != nil || got != p || len(p.Bytes()) > 64 {
			t.Errorf("%s: %+v, %v, %d bytes", p.Bytes(), got, err, len(p.Bytes()))
		}
	}
	for _, bad := range []string{"", "pg1", "pg1 1 2", "pg1 x 2 0/1", "pg1 1 x 0/1", "pg1 1 2 1", "pg1 1 2 1/x", "pg1 1 2 100000000/0", "pg2 1 2 0/1", strings.Repeat("x", 100)} {
		if _, err := ParsePosition([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a position", bad)
		}
	}
}

// FuzzParsers: what another machine or a program says never panics.
func FuzzParsers(f *testing.F) {
	f.Add("pg1 1 2 0/1", "1\t0/3000000\tno recovery target specified\n")
	f.Fuzz(func(_ *testing.T, a, b string) {
		_, _ = ParsePosition([]byte(a))
		_, _ = parseHistory(2, b)
		_, _ = parseControl(b)
		_, _ = logSizes{8192, 16 << 20}.parseRecord(a)
		_, _ = timelineOf(a)
		_ = complaint(b)
	})
}

func lineage(t *testing.T, timeline uint32, content string) history {
	t.Helper()
	h, err := parseHistory(timeline, content)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Guards: a position counts as reached only on its own timeline or on one that
// left it behind that position.
func TestReached(t *testing.T) {
	third := lineage(t, 3, "1\t0/1000\tx\n\n2\t0/2000\tx\n")
	for _, c := range []struct {
		want    Position
		end     LSN
		problem string // "" for reached
	}{
		{Position{9, 3, 0x2500}, 0x2500, ""},
		{Position{9, 3, 0x2500}, 0x24ff, "position-missing"},
		{Position{9, 2, 0x2000}, 0x2500, ""},
		{Position{9, 2, 0x2001}, 0x2500, "timeline-differs"},
		{Position{9, 1, 0x1000}, 0x2500, ""},
		{Position{9, 1, 0x1001}, 0x2500, "timeline-differs"},
		{Position{9, 4, 0x100}, 0x2500, "timeline-differs"},
		{Position{8, 3, 0x100}, 0x2500, "system-differs"},
	} {
		err := reached(c.want, 9, c.end, third)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%+v at %s: %v, want %q", c.want, c.end, err, c.problem)
		}
	}
}

// Guards: an old primary is rewound exactly when its log has something that the
// new one's has not, and what is lost begins where they parted.
func TestPlanRejoin(t *testing.T) {
	second := lineage(t, 2, "1\t0/1000\tx\n")
	at := func(timeline uint32, end LSN) standing {
		return standing{System: 9, State: "in production", Timeline: timeline, End: end, checkpointTimeline: timeline, Rewindable: true}
	}
	plain := at(1, 0x1500)
	plain.Rewindable = false
	unseen := at(3, 0x1500)
	unseen.State, unseen.checkpointTimeline = "in archive recovery", 1
	applied := unseen
	applied.minimum = 0x1400
	for name, c := range map[string]struct {
		own     standing
		history history
		want    rejoin
		problem string
	}{
		"ends where the new one begins": {own: at(1, 0x1000), want: rejoin{fork: 0x1000}},
		"ends before":                   {own: at(1, 0x800), want: rejoin{fork: 0x800}},
		"same timeline":                 {own: at(2, 0x1500), want: rejoin{fork: 0x1500}},
		"went on":                       {own: at(1, 0x1500), want: rejoin{rewind: true, fork: 0x1000, lost: 0x500}},
		"went on without hints":         {own: plain, problem: "rewind-impossible"},
		"another branch":                {own: at(3, 0x1500), history: lineage(t, 3, "1\t0/900\tx\n"), want: rejoin{rewind: true, fork: 0x900, lost: 0xc00}},
		"nothing in common":             {own: at(3, 0x1500), problem: "timeline-differs"},
		"another branch in the log only": {own: unseen, history: lineage(t, 3, "1\t0/900\tx\n"),
			want: rejoin{rewind: true, trim: true, fork: 0x900, lost: 0xc00}},
		"another branch applied unseen": {own: applied, history: lineage(t, 3, "1\t0/900\tx\n"), problem: "timeline-differs"},
	} {
		got := planRejoin(c.own, c.history, 9, second)
		if c.problem != "" {
			if got.problem == nil || got.problem.Name != c.problem || got.problem.Do == "" {
				t.Errorf("%s: %+v, want the problem %s", name, got.problem, c.problem)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := planRejoin(at(1, 0x1000), history{}, 8, second); got.problem == nil || got.problem.Name != "system-differs" {
		t.Errorf("another cluster: %+v", got)
	}
}

// Guards: the end of a record counts the headers of the pages that it crosses.
func TestRecordEnd(t *testing.T) {
	z := logSizes{page: 8192, segment: 16 << 20}
	for line, want := range map[string]LSN{
		"rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/030F3C88, prev 0/030F3C60, desc: CHECKPOINT_SHUTDOWN redo 0/30F3C88": 0x30F3D00,
		"rmgr: Heap        len (rec/tot):     59/   100, tx:        748, lsn: 0/03001FC0, prev 0/03001F80, desc: INSERT off 1":                       0x3002000 + 24 + 40,
		"rmgr: Heap        len (rec/tot):     59/   100, tx:        748, lsn: 0/03FFFFC0, prev 0/03FFFF80, desc: INSERT off 1":                       0x4000000 + 40 + 40,
		"rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000100, prev 0/030000D8, desc: SWITCH ":                            0x4000000,
	} {
		if got, err := z.parseRecord(line); err != nil || got != want {
			t.Errorf("%s: ends at %s, %v, want %s", line, got, err, want)
		}
	}
}

// Guards: each state that stops or spoils a switch has its name, says what to do,
// and blocks or not as it must; a healthy pair has none.
func TestJudge(t *testing.T) {
	healthy := func() (*server, *upstream) {
		settings := map[string]string{"wal_log_hints": "off", "data_checksums": "on", "max_connections": "100", "recovery_target_timeline": "latest", "recovery_min_apply_delay": "0"}
		own := &server{System: 9, Version: 150018, InRecovery: true, Timeline: 2, LSN: 0x2000, Superuser: true, Settings: settings, Receiver: &receiver{Status: "streaming"}}
		up := &upstream{address: "a:1", history: history{timeline: 2}, server: &server{System: 9, Version: 150018, Timeline: 2, LSN: 0x2000, Superuser: true, Settings: settings}}
		return own, up
	}
	l := limits{maxLag: 100, minFree: 10, slot: "signalbox_west", policy: Abort, rewindOK: true}
	own, up := healthy()
	if got := judge(own, up, []managed.Disk{{Path: "/", Free: 11}}, l); len(got) != 0 {
		t.Errorf("a healthy standby: %+v", got)
	}
	for name, c := range map[string]struct {
		blocks bool
		spoil  func(own *server, up *upstream)
	}{
		"not-superuser":        {true, func(o *server, _ *upstream) { o.Superuser = false }},
		"replay-paused":        {true, func(o *server, _ *upstream) { o.Paused = true }},
		"replay-delayed":       {true, func(o *server, _ *upstream) { o.Settings["recovery_min_apply_delay"] = "5000" }},
		"recovery-target-set":  {true, func(o *server, _ *upstream) { o.Settings["recovery_target_lsn"] = "0/1" }},
		"timeline-pinned":      {true, func(o *server, _ *upstream) { o.Settings["recovery_target_timeline"] = "current" }},
		"read-only-default":    {true, func(o *server, _ *upstream) { o.Settings["default_transaction_read_only"] = "on" }},
		"sync-standby-set":     {false, func(o *server, _ *upstream) { o.Settings["synchronous_standby_names"] = "*" }},
		"rewind-impossible":    {false, func(o *server, _ *upstream) { o.Settings["data_checksums"] = "off" }},
		"upstream-unreachable": {false, func(_ *server, u *upstream) { u.err = errOpen }},
		"system-differs":       {true, func(_ *server, u *upstream) { u.server.System = 8 }},
		"upstream-not-primary": {true, func(_ *server, u *upstream) { u.server.InRecovery = true }},
		"timeline-differs":     {true, func(o *server, _ *upstream) { o.Timeline = 3 }},
		"version-differs":      {true, func(_ *server, u *upstream) { u.server.Version = 160001 }},
		"lag":                  {true, func(_ *server, u *upstream) { u.server.LSN = 0x2065 }},
		"slot-missing":         {true, func(o *server, _ *upstream) { o.Receiver = nil }},
		"slot-lost": {true, func(o *server, u *upstream) {
			o.Receiver, u.server.Slots = nil, []slot{{Name: "signalbox_west", Status: "lost"}}
		}},
		"not-streaming": {true, func(o *server, u *upstream) {
			o.Receiver, u.server.Slots = nil, []slot{{Name: "signalbox_west", Status: "reserved"}}
		}},
		"setting-lower": {true, func(o *server, u *upstream) {
			u.server.Settings = map[string]string{"max_connections": "200"}
		}},
		"no-standby":            {false, func(o *server, _ *upstream) { o.InRecovery = false }},
		"long-transaction":      {true, func(o *server, _ *upstream) { o.InRecovery, o.Long = false, []transaction{{Query: "select"}} }},
		"prepared-transactions": {false, func(o *server, _ *upstream) { o.InRecovery, o.Prepared = false, 1 }},
		"archive-failing":       {false, func(o *server, _ *upstream) { o.InRecovery, o.ArchiveFailing = false, "0001" }},
		"logical-slot":          {false, func(o *server, _ *upstream) { o.InRecovery, o.Slots = false, []slot{{Logical: true}} }},
		"slot-holds-log":        {false, func(o *server, _ *upstream) { o.Slots = []slot{{Held: 2 << 30}} }},
	} {
		own, up := healthy()
		c.spoil(own, up)
		got := judge(own, up, nil, l)
		i := slices.IndexFunc(got, func(f managed.Finding) bool { return f.Name == name })
		if i < 0 || got[i].Blocks != c.blocks || got[i].What == "" || got[i].Do == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	low := judge(own, nil, []managed.Disk{{Path: "/data", Free: 9}}, l)
	r := managed.Readiness(low...)
	if r.Ready || r.Problems[0].Name != "disk-low" || !slices.ContainsFunc(r.Problems, func(p driver.Problem) bool { return p.Name == "no-upstream" }) {
		t.Errorf("a full disk and nobody to follow: %+v", r)
	}
}
