package gossip

import (
	"bytes"
	stdlog "log"
	"time"

	"github.com/rs/zerolog"
)

// What others send decides how much is logged, so it is bounded: per level a
// burst, then silence until the period is over. The metrics count everything.
const (
	logBurst  = 10
	logPeriod = time.Second
	// maxLogLine bounds one line of memberlist's, which may quote others.
	maxLogLine = 512
)

func boundedLog(l zerolog.Logger) zerolog.Logger {
	burst := func() zerolog.Sampler { return &zerolog.BurstSampler{Burst: logBurst, Period: logPeriod} }
	return l.Sample(&zerolog.LevelSampler{
		TraceSampler: burst(), DebugSampler: burst(), InfoSampler: burst(),
		WarnSampler: burst(), ErrorSampler: burst(),
	})
}

// libraryLog turns memberlist's lines into events, and counts the drops that
// only its log tells of.
type libraryLog struct {
	log  zerolog.Logger
	drop func(reason)
}

func newLibraryLog(log zerolog.Logger, drop func(reason)) *stdlog.Logger {
	return stdlog.New(libraryLog{boundedLog(log), drop}, "", 0)
}

// memberlist's levels are one lower here: a peer's garbage is its "error", and
// what we do not hear is no fault of ours.
var libraryLevels = []struct {
	prefix string
	level  zerolog.Level
}{
	{"[DEBUG] ", zerolog.TraceLevel},
	{"[INFO] ", zerolog.DebugLevel},
	{"[WARN] ", zerolog.InfoLevel},
	{"[ERR] ", zerolog.WarnLevel},
	{"[ERROR] ", zerolog.WarnLevel},
}

// Write takes one line.
func (w libraryLog) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	level := zerolog.InfoLevel
	for _, l := range libraryLevels {
		if rest, ok := bytes.CutPrefix(text, []byte(l.prefix)); ok {
			text, level = rest, l.level
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	text = text[:min(len(text), maxLogLine)]
	if bytes.Contains(text, []byte("no installed keys could decrypt")) {
		w.drop(dropDecrypt)
	}
	if bytes.Contains(text, []byte("queue full")) {
		w.drop(dropQueue)
	}
	w.log.WithLevel(level).Str("library", "memberlist").Msg(string(text))
	return len(line), nil
}
