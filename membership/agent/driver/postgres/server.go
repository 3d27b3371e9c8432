package postgres

import "time"

// server is what one look at a running server says. It is data only: judge and
// the rest decide by it.
type server struct {
	System     uint64
	Version    int // server_version_num
	InRecovery bool
	Timeline   uint32
	// LSN is how far the log is flushed on a primary, and replayed on a standby.
	LSN LSN
	// Received is how far the standby has the log on its disk.
	Received LSN
	// ReplayAge is how long ago the last transaction that was replayed was
	// committed on the primary; 0 when none was.
	ReplayAge time.Duration
	// Paused is true when somebody has paused the replay.
	Paused bool
	// Superuser is false when the driver's role is not one.
	Superuser bool
	Settings  map[string]string // the settings named in settingNames
	Receiver  *receiver         // of a standby that is connected
	Senders   []sender
	Slots     []slot
	Long      []transaction // the longest first, at most 20
	Prepared  int           // transactions prepared for two-phase commit
	// ArchiveFailing names the log file that archive_command could not archive last.
	ArchiveFailing string
}

// receiver is a standby's connection to its primary.
type receiver struct {
	Status string
	Slot   string
}

// sender is a primary's connection to a standby.
type sender struct {
	Name   string // application_name
	State  string // "streaming" when it has caught up
	Sync   string // sync_state
	Flush  LSN
	Replay LSN
	// Database is true for logical replication.
	Logical bool
}

// slot is a replication slot.
type slot struct {
	Name    string
	Logical bool
	Active  bool
	Status  string // wal_status: reserved, extended, unreserved, lost
	Restart LSN    // from where on it keeps the log
	Held    uint64 // bytes of the log that it keeps
}

// transaction is one that runs.
type transaction struct {
	PID         int32
	User        string
	Application string
	Age         time.Duration
	State       string
	Query       string // at most 120 characters
}

// settingNames are the settings that can stop a promotion, a replay or a rewind.
var settingNames = []string{
	"wal_log_hints", "data_checksums", "full_page_writes", "wal_level",
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"recovery_min_apply_delay", "recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid",
	"recovery_target_timeline", "default_transaction_read_only", "synchronous_standby_names", "max_slot_wal_keep_size",
}

// caughtUp are the standbys that stream and lack at most lag bytes of lsn.
func (s *server) caughtUp(lsn LSN, lag uint64) []sender {
	var out []sender
	for _, w := range s.Senders {
		if !w.Logical && w.State == "streaming" && w.Flush.Behind(lsn) <= lag {
			out = append(out, w)
		}
	}
	return out
}
