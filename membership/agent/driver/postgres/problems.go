package postgres

import (
	"slices"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// limits are what judge measures against.
type limits struct {
	maxLag   uint64   // bytes that a standby may lack and still count as ready
	minFree  uint64   // bytes of room that a disk should have
	slot     string   // the slot that this instance streams from; "" for none
	standbys []string // the other instances
	long     time.Duration
	policy   Policy
	rewindOK bool // whether the old primary is to come back by pg_rewind
}

// upstream is what a standby's driver sees of the primary that it follows.
type upstream struct {
	address string
	err     error   // why it could not be looked at
	server  *server // nil then
	history history // of the primary's timeline
}

// judge says what a person should look at before this server is switched over
// to or from. up is nil for a primary and for a standby that follows nobody yet.
func judge(own *server, up *upstream, disks []managed.Disk, l limits) []managed.Finding {
	out := judgeAccess(own)
	out = append(out, managed.JudgeDisks(disks, l.minFree, "a promotion, a rewind and every commit write there")...)
	if l.rewindOK && own.Settings["wal_log_hints"] != "on" && own.Settings["data_checksums"] != "on" {
		out = append(out, managed.Found(false, "rewind-impossible", "set wal_log_hints = on and restart at a quiet time, or enable checksums with pg_checksums while it is stopped",
			"neither wal_log_hints nor checksums are on: after a failover the old primary cannot be rewound and must be copied anew"))
	}
	if own.InRecovery {
		out = append(out, judgeStandby(own)...)
		out = append(out, judgeStream(own, up, l)...)
	} else {
		out = append(out, judgePrimary(own, l)...)
	}
	return append(out, judgeSlots(own)...)
}

func judgeAccess(own *server) []managed.Finding {
	if own.Superuser {
		return nil
	}
	return []managed.Finding{managed.Found(true, "not-superuser", "ALTER ROLE ... SUPERUSER for the driver's role: ending superusers' sessions, promoting and rewinding need it",
		"the driver's role is not a superuser")}
}

// judgeStandby names what stops a promotion, or what the server would do wrong
// once promoted.
func judgeStandby(own *server) []managed.Finding {
	var out []managed.Finding
	if own.Paused {
		out = append(out, managed.Found(true, "replay-paused", "SELECT pg_wal_replay_resume(); if it pauses again, the log says why: often a setting lower than the primary's",
			"the replay is paused: the standby receives the log and does not apply it"))
	}
	if d := own.Settings["recovery_min_apply_delay"]; d != "" && d != "0" {
		out = append(out, managed.Found(true, "replay-delayed", "set recovery_min_apply_delay = 0 and reload, or switch to another standby",
			"recovery_min_apply_delay is %s ms: the standby is behind on purpose and a promotion would wait for it", d))
	}
	for _, name := range []string{"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"} {
		if v := own.Settings[name]; v != "" {
			out = append(out, managed.Found(true, "recovery-target-set", "ALTER SYSTEM RESET "+name+" and restart the standby",
				"%s is %q: the standby stops replaying there", name, v))
		}
	}
	if t := own.Settings["recovery_target_timeline"]; t != "" && t != "latest" {
		out = append(out, managed.Found(true, "timeline-pinned", "set recovery_target_timeline = latest and restart the standby",
			"recovery_target_timeline is %q: the standby cannot follow a new primary", t))
	}
	if own.Settings["default_transaction_read_only"] == "on" {
		out = append(out, managed.Found(true, "read-only-default", "ALTER SYSTEM RESET default_transaction_read_only and reload",
			"default_transaction_read_only is on: after a promotion every insert would fail"))
	}
	if v := own.Settings["synchronous_standby_names"]; v != "" {
		out = append(out, managed.Found(false, "sync-standby-set", "leave synchronous_standby_names empty, or make sure that a standby which it names follows this server at once",
			"synchronous_standby_names is %q: after a promotion commits wait until such a standby follows", v))
	}
	return out
}

// judgeStream compares a standby with its primary.
func judgeStream(own *server, up *upstream, l limits) []managed.Finding {
	switch {
	case up == nil:
		return []managed.Finding{managed.Found(true, "no-upstream", "wait until a master serves and is known; `signalbox status` shows who does",
			"the standby does not know whom to follow")}
	case up.err != nil && tlsAdvice(up.err) != "":
		return []managed.Finding{{Problem: accessProblem("the primary at "+up.address, up.err)}}
	case up.err != nil:
		return []managed.Finding{managed.Found(false, "upstream-unreachable", "look whether the primary runs and whether the driver's role may connect from here (pg_hba.conf, password)",
			"the primary at %s cannot be looked at: %v", up.address, up.err)}
	case up.server.System != own.System:
		return []managed.Finding{managed.Found(true, "system-differs", "this is a standby of another database cluster: make it anew with pg_basebackup from the primary",
			"the system identifier is %d here and %d on the primary at %s", own.System, up.server.System, up.address)}
	case up.server.InRecovery:
		return []managed.Finding{managed.Found(true, "upstream-not-primary", "wait for the primary's promotion; if it lasts, look at `signalbox status`",
			"the server at %s is a standby itself", up.address)}
	case !up.history.contains(own.Timeline, own.LSN, own.LSN):
		return []managed.Finding{managed.Found(true, "timeline-differs", "the driver rewinds it at its next start as a standby; if it does not, make it anew with pg_basebackup",
			"the standby is at %s of timeline %d, which the primary's timeline %d does not contain", own.LSN, own.Timeline, up.server.Timeline)}
	}
	out := judgeSettings(own, up.server)
	if own.Receiver == nil || own.Receiver.Status != "streaming" {
		return append(out, judgeBroken(up, l))
	}
	if lag := own.LSN.Behind(up.server.LSN); lag > l.maxLag {
		out = append(out, managed.Found(true, "lag", "wait until it has caught up; if it does not, look at the network and at long queries on the standby",
			"the standby is %s (%s) behind, more than %s", signalbox.Size(lag), own.ReplayAge.Round(time.Millisecond), signalbox.Size(l.maxLag)))
	}
	return out
}

// judgeBroken says why a standby does not stream although its primary is there.
func judgeBroken(up *upstream, l limits) managed.Finding {
	for _, s := range up.server.Slots {
		if s.Name == l.slot && s.Status == "lost" {
			return managed.Found(true, "slot-lost", "the primary has thrown away log that this standby needs (max_slot_wal_keep_size): make it anew with pg_basebackup",
				"the replication slot %q on the primary is lost", s.Name)
		}
		if s.Name == l.slot {
			return managed.Found(true, "not-streaming", "look at the standby's log: it says why its walreceiver cannot connect (password, pg_hba.conf, max_wal_senders)",
				"the standby does not stream from %s", up.address)
		}
	}
	if l.slot == "" {
		return managed.Found(true, "not-streaming", "look at the standby's log", "the standby does not stream from %s", up.address)
	}
	return managed.Found(true, "slot-missing", "the driver makes it again within seconds; if it does not: SELECT pg_create_physical_replication_slot('"+l.slot+"', true) on the primary",
		"the replication slot %q is gone on the primary at %s", l.slot, up.address)
}

// judgeSettings names settings which a standby must not have lower than its primary.
func judgeSettings(own, primary *server) []managed.Finding {
	var out []managed.Finding
	for _, name := range []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"} {
		here, errHere := strconv.Atoi(own.Settings[name])
		there, errThere := strconv.Atoi(primary.Settings[name])
		if errHere == nil && errThere == nil && here < there {
			out = append(out, managed.Found(true, "setting-lower", "raise "+name+" here to the primary's value and restart the standby",
				"%s is %d here and %d on the primary: the replay stops when the primary uses more", name, here, there))
		}
	}
	if own.Version/10000 != primary.Version/10000 {
		out = append(out, managed.Found(true, "version-differs", "run the same major version on both", "PostgreSQL %d here, %d on the primary", own.Version/10000, primary.Version/10000))
	}
	return out
}

// judgePrimary names what makes stepping down long or lossy.
func judgePrimary(own *server, l limits) []managed.Finding {
	var out []managed.Finding
	if len(own.caughtUp(own.LSN, l.maxLag)) == 0 {
		out = append(out, managed.Found(false, "no-standby", "look at the standby: without one that streams a planned switchover is refused",
			"no standby streams and is less than %s behind", signalbox.Size(l.maxLag)))
	}
	for _, name := range l.standbys {
		near := own.caughtUp(own.LSN, l.maxLag)
		if len(near) > 0 && !slices.ContainsFunc(near, func(w sender) bool { return w.Name == slotName(name) }) {
			out = append(out, managed.Found(false, "standby-missing", "look at that standby: it cannot be switched to until it streams and has caught up",
				"%s does not stream from here or is more than %s behind", name, signalbox.Size(l.maxLag)))
		}
	}
	for _, t := range own.Long {
		out = append(out, managed.Found(l.policy == Abort, "long-transaction", l.policy.advice(),
			"process %d (%s, %s) has a transaction %s old, %s: %s", t.PID, t.User, t.Application, t.Age.Round(time.Second/10), t.State, t.Query))
		out[len(out)-1].Refuses = l.policy == Abort
	}
	if own.Prepared > 0 {
		out = append(out, managed.Found(false, "prepared-transactions", "commit or roll them back by their transaction manager; they move along and keep their locks",
			"%d transactions are prepared for two-phase commit", own.Prepared))
	}
	if own.ArchiveFailing != "" {
		out = append(out, managed.Found(false, "archive-failing", "repair archive_command; until then the log piles up, and a clean stop waits for it",
			"the log file %s cannot be archived", own.ArchiveFailing))
	}
	return out
}

func judgeSlots(own *server) []managed.Finding {
	var out []managed.Finding
	for _, s := range own.Slots {
		switch {
		case s.Logical && !own.InRecovery:
			out = append(out, managed.Found(false, "logical-slot", "have its subscriber made anew on the new primary; PostgreSQL before 17 does not carry logical slots over",
				"the logical replication slot %q stays behind at a switchover", s.Name))
		case s.Status == "lost":
			out = append(out, managed.Found(false, "slot-lost", "drop it, and make its standby anew with pg_basebackup", "the replication slot %q is lost", s.Name))
		case !s.Active && s.Held > maxHeld:
			out = append(out, managed.Found(false, "slot-holds-log", "bring its standby back or drop the slot before the disk is full; bound it with max_slot_wal_keep_size",
				"nobody reads the replication slot %q, and it keeps %s of log", s.Name, signalbox.Size(s.Held)))
		}
	}
	return out
}

// maxHeld is how much log a slot may keep for an absent standby before it is named.
const maxHeld = 1 << 30
