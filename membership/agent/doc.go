// Package agent is the process (or library) beside one or more instances: it
// makes them obey, and signs what they did.
//
// Guarantees, for each instance (interlock rules 2, 4 and 8; the core's tests
// hold them): it serves a term only with the verified certificate of it that
// lists or admits the instance, never below what it acked, not after it left,
// and after a start of the instance only when a quorum of voters has answered
// its nonce. It gives one answer to a block, persisted before it is said; an ack
// only while closed with nothing in flight. It refuses by itself when the hold
// budget has run out. Losing every gateway changes nothing for an instance that
// serves; losing the agent neither.
//
// It does not guarantee that a service obeys: that is the driver's part, and a
// service that works on behind the driver's back must check the term as a
// fencing token. It cannot see that its whole directory, key and state, was
// replaced by an older copy: images and backups must exclude it, and gateways
// that remember a higher incarnation refuse the identity.
//
// The core (core*.go) is pure. One goroutine per instance owns core and store;
// it never waits for a gateway. Three lines in a Go service:
//
//	a, err := agent.Open(bundleDir, agent.Instance{Service: "orders", Name: "orders-east-1", Address: addr})
//	go a.Run(ctx)
//	http.ListenAndServe(addr, a.Guard(handler))
//
// At SIGTERM call Stop while the server still listens, and shut the server down
// when Stop has returned.
package agent
