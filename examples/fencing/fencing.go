// Package fencing shows how storage refuses an old master: the term of a request
// (agent.TermFrom, or X-Signalbox-Term behind one's own gate) goes along to every
// write. It is to be copied, not imported.
//
// A lease ends mastership by itself, but nothing inside a process can keep it from
// being frozen between its last look at the clock and its write. The storage can
// tell, because it sees both masters.
package fencing

import "errors"

// ErrNewerMaster is returned when a newer master has been here: what was to be
// written was not. Answer 503 with X-Signalbox-Not-Master.
var ErrNewerMaster = errors.New("a newer master has taken over")
