package redis

import (
	"net"
	"strconv"
	"strings"
	"time"
)

// server is what one look at a running server says. It is data only.
type server struct {
	Version    string
	Run        string
	ConfigFile string
	Cluster    bool

	Master       bool
	Loading      bool
	ReplID       string
	ReplID2      string // the history before, up to SecondOffset
	SecondOffset int64
	Offset       int64 // applied

	// Of a replica.
	Upstream string // host:port
	LinkUp   bool
	Syncing  bool
	Silent   time.Duration // since it heard of its master

	Replicas []replica
	Sentinel bool // a Sentinel is connected

	AOF        bool
	SaveFailed bool // the last snapshot or write to the append-only file failed
	Memory     uint64
	MaxMemory  uint64
	Settings   map[string]string // the settings named in settingNames, where they were asked for
}

// replica is one that a server feeds.
type replica struct {
	Address string
	Online  bool
	Offset  int64 // acknowledged by itself, once a second
}

// settingNames are the settings that can stop a promotion or lose writes.
var settingNames = []string{"appendonly", "dir", "dbfilename", "appenddirname", "maxmemory", "maxmemory-policy", "min-replicas-to-write",
	"replica-read-only", "save", "stop-writes-on-bgsave-error"}

// parse reads what INFO says.
func parse(info string) *server {
	f := map[string]string{}
	for _, line := range strings.Split(info, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = value
		}
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(f[name], 10, 64) // 0 where Redis says nothing
		return n
	}
	s := &server{
		Version: f["redis_version"], Run: f["run_id"], ConfigFile: f["config_file"], Cluster: f["cluster_enabled"] == "1",
		Master: f["role"] == "master", Loading: f["loading"] == "1" || f["async_loading"] == "1",
		ReplID: f["master_replid"], ReplID2: f["master_replid2"], SecondOffset: number("second_repl_offset"),
		Offset: number("master_repl_offset"), AOF: f["aof_enabled"] == "1",
		SaveFailed: f["rdb_last_bgsave_status"] == "err" || f["aof_last_write_status"] == "err" || f["aof_last_bgrewrite_status"] == "err",
		Memory:     uint64(number("used_memory")), MaxMemory: uint64(number("maxmemory")),
	}
	if !s.Master {
		s.Offset = number("slave_repl_offset")
		s.Upstream = net.JoinHostPort(f["master_host"], f["master_port"])
		s.LinkUp, s.Syncing = f["master_link_status"] == "up", f["master_sync_in_progress"] == "1"
		s.Silent = time.Duration(max(number("master_link_down_since_seconds"), number("master_last_io_seconds_ago"), 0)) * time.Second
	}
	for n := range min(number("connected_slaves"), maxListed) {
		s.Replicas = append(s.Replicas, parseReplica(f["slave"+strconv.FormatInt(n, 10)]))
	}
	return s
}

// maxListed is how many replicas of a server are looked at.
const maxListed = 64

func parseReplica(text string) (r replica) {
	var host, port string
	for _, field := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "ip":
			host = value
		case "port":
			port = value
		case "state":
			r.Online = value == "online"
		case "offset":
			r.Offset, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	r.Address = net.JoinHostPort(host, port)
	return r
}

// behind are how many bytes a position lacks of another's; 0 when it is ahead.
func behind(have, want int64) uint64 { return uint64(max(want-have, 0)) }
