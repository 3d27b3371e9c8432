// Package gossip says who is there, and delivers signed statements and larger
// signed documents among the members of one pool. A pool is one memberlist
// cluster: one per data center (agents and gateways), one across (gateways).
//
// # What it guarantees
//
//   - A statement or document that Validate refuses is never stored, called
//     back or passed on.
//   - OnStatement is called at most once per key and OnDocument at most once
//     per hash in the life of a Pool, as long as no more than
//     TombstonesPerLimit times the set's limit was forgotten since.
//   - A statement that one member of a connected pool holds reaches every other
//     member that neither forgot nor evicted it, by the next push-pull
//     exchanges at the latest. Usually it takes a few milliseconds: packets
//     straight to the gateways and some random members, and on first receipt
//     from there to further random ones. memberlist's own gossip tick is the
//     second way and push-pull over streams the third.
//   - Nothing leaves unencrypted and nothing unencrypted is accepted.
//   - What arrives from the network is bounded (limits.go), never panics, and
//     is counted when it is dropped.
//
// # What it does not
//
//   - Presence is a hint. A member that is silent, suspect, "dead" or gone from
//     Members has proven nothing, and neither has one that is listed: silence
//     is never evidence (design, rule 6). No decision about mastership may rest
//     on an Event or on Members.
//   - The gossip key proves membership of the pool, not who is speaking. Role,
//     data center and address of a Member are its own claim; statements and
//     documents carry their own signatures for that reason.
//   - Order is not kept, and delivery to one member says nothing about others.
//   - Nothing is stored on disk.
package gossip
