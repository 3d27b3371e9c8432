package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api/report"
)

// clean makes text from the network harmless for a terminal.
func clean(s string) string { return report.Plain(s) }

// table prints rows with cells that came over the network.
func table(w io.Writer, heading []string, lines [][]string) error {
	all := append([][]string{heading}, lines...)
	for _, cells := range all {
		for i, c := range cells {
			if c = clean(strings.Join(strings.Fields(c), " ")); c == "" {
				c = "-"
			}
			cells[i] = c
		}
	}
	return rows(w, all)
}

// of writes "2/3", and "-" for none of none.
func of(n, all int) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", n, all)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// millis writes milliseconds for a person, "-" for none.
func millis(v *float64) string {
	if v == nil {
		return "-"
	}
	return report.Milliseconds(*v)
}

func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// ago writes how long something was silent.
func ago(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Millisecond).String()
}
