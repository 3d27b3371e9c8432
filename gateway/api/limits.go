package api

import "time"

// Maxima for what comes from outside, and times.
const (
	// MaxBody is the largest request body, in bytes.
	MaxBody = 64 << 10
	// MaxHeader is the largest request header, in bytes.
	MaxHeader = 16 << 10
	// MaxKey is the longest Idempotency-Key, in bytes.
	MaxKey = 128
	// MaxKeys is how many answered keys a gateway remembers; a handover's id
	// remembers for longer.
	MaxKeys = 1024
	// MaxPage is the largest number of handovers in one list.
	MaxPage = 200
	// MaxRequests is how many requests one gateway answers at once, streams
	// aside.
	MaxRequests = 256
	// MaxBackups is how many journal backups one gateway writes at once.
	MaxBackups = 2

	// RequestTimeout bounds an answer; a decision of the voters is within it.
	RequestTimeout = 10 * time.Second
	// BodyTimeout bounds the reading of a request's body.
	BodyTimeout = 5 * time.Second
	// WriteTimeout bounds each write to a stream: a reader that takes nothing
	// for so long is cut off.
	WriteTimeout = 10 * time.Second
	// Heartbeat is how often a silent event stream says that it is alive.
	Heartbeat = 10 * time.Second
)
