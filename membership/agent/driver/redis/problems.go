package redis

import (
	"strconv"
	"strings"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// limits are what judge measures against.
type limits struct {
	maxLag   uint64 // bytes that a replica may lack and still count as ready
	minFree  uint64 // bytes of room that the disk should have
	disks    []managed.Disk
	replicas int
	file     string
	role     role   // what the driver made of the server
	run      string // which run of it was promoted
}

// judge says what a person should look at before this server is switched over
// to or from. up is nil for a master and for a replica that follows nobody yet.
func judge(own *server, up *upstream, l limits) []managed.Finding {
	out := judgeServer(own, l)
	out = append(out, judgeMemory(own, up)...)
	out = append(out, judgeDisk(own, l)...)
	if own.Master {
		return append(out, judgeMaster(own, l)...)
	}
	return append(out, judgeReplica(own, up, l)...)
}

func judgeServer(own *server, l limits) []managed.Finding {
	var out []managed.Finding
	if major, err := strconv.Atoi(strings.SplitN(own.Version, ".", 2)[0]); err == nil && major < 7 {
		out = append(out, managed.Found(true, "version-old", "upgrade it to Redis 7", "this is Redis %s", own.Version))
	}
	if own.Cluster {
		out = append(out, managed.Found(true, "cluster-mode", "use a server without cluster-enabled; a Redis Cluster moves its masters itself", "the server is part of a Redis Cluster"))
	}
	if own.ConfigFile != l.file {
		out = append(out, managed.Found(true, "other-config-file", "give the agent the file that the server was started with (redis.file), or start the server with that one",
			"the server was started with the file %q, the agent keeps %q", own.ConfigFile, l.file))
	}
	if own.Sentinel {
		out = append(out, managed.Found(true, "sentinel", "stop the Sentinels that watch it (SENTINEL REMOVE): they would promote servers on their own",
			"a Redis Sentinel watches this server"))
	}
	if own.Loading {
		out = append(out, managed.Found(true, "loading", "wait", "the server loads its data from its disk"))
	}
	if n := own.Settings["min-replicas-to-write"]; n != "" && n != "0" {
		out = append(out, managed.Found(false, "min-replicas", "set min-replicas-to-write 0, or make sure that so many replicas follow at once: after a failover there may be none",
			"min-replicas-to-write is %s: as a master it takes no write without so many replicas", n))
	}
	return out
}

func judgeMemory(own *server, up *upstream) []managed.Finding {
	var out []managed.Finding
	full, here := own.Settings["maxmemory-policy"] == "noeviction", own.MaxMemory
	if here == 0 {
		return nil
	}
	if up != nil && up.server != nil && up.server.Memory > here && !own.Master {
		out = append(out, managed.Found(true, "maxmemory-lower", "raise maxmemory here (CONFIG SET maxmemory, CONFIG REWRITE)",
			"maxmemory is %s here and the master uses %s: once promoted this server evicts data or refuses writes", signalbox.Size(here), signalbox.Size(up.server.Memory)))
	}
	if full && own.Memory > here/10*9 {
		out = append(out, managed.Found(own.Memory >= here, "memory-full", "raise maxmemory or remove data: writes are refused when it is full",
			"%s of %s memory are used, and nothing is evicted", signalbox.Size(own.Memory), signalbox.Size(here)))
	}
	return out
}

func judgeDisk(own *server, l limits) []managed.Finding {
	out := managed.JudgeDisks(l.disks, l.minFree, "snapshots and the append-only file are written there")
	if own.SaveFailed {
		out = append(out, managed.Found(own.Settings["stop-writes-on-bgsave-error"] != "no", "save-failed", "look at the server's log: the disk may be full or not writable; then BGSAVE or BGREWRITEAOF",
			"the last snapshot or write to the append-only file failed; as a master it would refuse writes"))
	}
	switch {
	case own.Settings["appendonly"] == "yes":
	case own.Settings["save"] == "":
		out = append(out, managed.Found(false, "persistence-off", "CONFIG SET appendonly yes and CONFIG REWRITE, or accept that only replicas hold the data",
			"neither the append-only file nor snapshots are on: a server that is started again is empty, and is not promoted again"))
	default:
		out = append(out, managed.Found(false, "aof-off", "CONFIG SET appendonly yes and CONFIG REWRITE",
			"the append-only file is off: a master that crashes is not promoted again, a failover to its replica is needed"))
	}
	return out
}

func judgeMaster(own *server, l limits) []managed.Finding {
	var out []managed.Finding
	if l.role != roleMaster && l.role != roleNone {
		out = append(out, managed.Found(true, "promoted-by-hand", "nobody but the agent may promote it: look who ordered REPLICAOF NO ONE",
			"the server is master, and its agent did not make it one"))
	}
	near := 0
	for _, r := range own.Replicas {
		if r.Online && behind(r.Offset, own.Offset) <= l.maxLag {
			near++
		}
	}
	if near < l.replicas {
		out = append(out, managed.Found(false, "no-replica", "look at the replica: without it a planned switchover is refused",
			"%d replicas are connected and less than %s behind, %d are wanted", near, signalbox.Size(l.maxLag), l.replicas))
	}
	return out
}

func judgeReplica(own *server, up *upstream, l limits) []managed.Finding {
	var out []managed.Finding
	if own.Settings["replica-read-only"] == "no" {
		out = append(out, managed.Found(true, "replica-writable", "CONFIG SET replica-read-only yes and CONFIG REWRITE",
			"replica-read-only is off: whoever reaches this replica can change its data"))
	}
	if l.role == roleMaster && own.Run != l.run {
		out = append(out, managed.Found(true, "crashed", "it is promoted again by itself when it may be, or follows the new master",
			"the server was master, has ended and was started again"))
	}
	switch {
	case up == nil && l.role == roleClosed:
		return out // it waits for the new master
	case up == nil:
		return append(out, managed.Found(true, "no-upstream", "wait until a master serves and is known; `signalbox status` shows who does",
			"the replica does not know whom to follow"))
	case own.Upstream != up.address:
		return append(out, managed.Found(true, "other-master", "somebody has ordered REPLICAOF, or the file was changed: the agent sets it right when the master is known",
			"it is a replica of %s and should be one of %s", own.Upstream, up.address))
	case up.err != nil:
		p := accessProblem("the master at "+up.address, up.err)
		wrong := p.Name == "wrong-password" || p.Name == "no-permission" || p.Name == "tls"
		if !wrong {
			p.Name = "upstream-unreachable"
		}
		return append(out, managed.Finding{Problem: p, Blocks: wrong})
	case !up.server.Master:
		return append(out, managed.Found(true, "upstream-not-master", "wait for its promotion; if it lasts, look at `signalbox status`",
			"the server at %s is a replica itself", up.address))
	}
	return append(out, judgeLink(own, up, l)...)
}

// judgeLink compares a replica with its master.
func judgeLink(own *server, up *upstream, l limits) []managed.Finding {
	switch {
	case own.Syncing:
		return []managed.Finding{managed.Found(true, "syncing", "wait until the replica has received its master's data", "the replica is receiving a whole copy of its master's data")}
	case !own.LinkUp:
		return []managed.Finding{managed.Found(true, "link-down", "look at the server's log: it says why it cannot follow (masterauth, tls-replication, firewall)",
			"the replica is not connected to its master at %s", up.address)}
	case own.ReplID != up.server.ReplID:
		return []managed.Finding{managed.Found(true, "history-differs", "wait for the synchronization; if it lasts, look at both servers' logs",
			"the replica's data is of replication %.8s, the master's of %.8s", own.ReplID, up.server.ReplID)}
	}
	if lag := behind(own.Offset, up.server.Offset); lag > l.maxLag {
		return []managed.Finding{managed.Found(true, "lag", "wait until it has caught up; if it does not, look at the network and at slow commands on the replica",
			"the replica is %s behind, more than %s", signalbox.Size(lag), signalbox.Size(l.maxLag))}
	}
	return nil
}
