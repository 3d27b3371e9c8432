// Package warden keeps a service's process alive while its agent is away, and
// ends it in time when its lease runs out.
//
// A warden is a process of its own between agent and service: it starts the
// service in the foreground as its child, is fed with deadlines over a socket in
// the instance's state directory (mode 0600, same user or root only), and kills
// everything that the service has started when the deadline comes, early enough
// for the time that killing takes. The deadline is on the boot-time clock, so a
// suspended machine does not gain time.
//
// Guarantees: while armed, the service's processes are sent SIGKILL at the
// deadline less the kill time, whether its agent lives or not, stopped or frozen
// processes included. While not armed, nobody's death but its own ends the
// service: neither the agent's nor, unless the service was started with DeadMan,
// the warden's; the next warden takes over what it finds. While armed, the next
// warden of a service without DeadMan waits beside it and takes over at once. When the service's
// main process ends, what it left behind is killed. Nothing is started again by
// itself.
//
// Everything that the service has started means: its control group (version 2),
// where one may be made; else all descendants of the warden, which is their
// subreaper. It does not guarantee anything while the warden itself is frozen or
// stopped, or the whole machine is: what wakes up later than its lease runs until
// the warden has run too. For that the term is a fencing token at the storage.
package warden
