// Package redis drives a Redis server (7.0 or newer, no cluster mode): a master
// with replicas elsewhere that is switched over without losing an acknowledged
// write, and comes back as a replica by itself.
//
// What it guarantees:
//
//   - A step-down pauses writes, waits until the replicas have every offset,
//     turns the server into a replica of nobody, and closes the clients. Writes
//     wait meanwhile and are not executed. Until then it can be given up, and
//     nobody notices but for the wait.
//   - A pause expires by itself and is no fence: the position is read when the
//     server takes no write any more, and nothing depends on the pause's length.
//   - The server's configuration file makes it a replica at all times, also while
//     it is master: whoever starts it, it takes no write before it is promoted.
//   - A promotion is refused while the data has not reached the certificate's
//     position: the same replication history, at least that offset.
//
// What it does not: Redis replicates asynchronously, so a failover may lose what
// was acknowledged last (Readiness.LagBytes says how much that is, MaxLoss
// bounds it), and a master that crashed and is promoted again has what its
// append-only file has. A person with administrator rights on the server can
// always order it to be master; the agent then reports it and steps it down.
package redis
