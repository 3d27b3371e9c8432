package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// A Duration is a time.Duration that is written with its unit, as 500ms, 5s,
// 2m30s, 12h or 90d, in files and flags alike.
type Duration time.Duration

// parseDuration reads a Duration. A bare number is refused: its unit would be a
// guess.
func parseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("bad duration %q: want a number with a unit, as 500ms, 5s, 2m30s, 12h or 90d", s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, bad
		}
		return Duration(n) * Duration(24*time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || s == "0" || d < 0 {
		return 0, bad
	}
	return Duration(d), nil
}

// String writes whole days as 90d and drops parts that are zero.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Set implements pflag.Value.
func (d *Duration) Set(s string) (err error) {
	*d, err = parseDuration(s)
	return err
}

// Type implements pflag.Value.
func (d *Duration) Type() string { return "duration" }

// UnmarshalYAML reads a duration where it stands, so that an error can say
// where that is.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	token := node.GetToken()
	v, err := parseDuration(token.Value)
	if _, scalar := node.(ast.ScalarNode); !scalar || err != nil {
		if !scalar {
			err = fmt.Errorf("bad duration: want a number with a unit, as 500ms, 5s, 2m30s, 12h or 90d")
		}
		return &positionError{line: token.Position.Line, column: token.Position.Column, message: err.Error()}
	}
	*d = v
	return nil
}

// MarshalYAML writes the duration as it is read.
func (d Duration) MarshalYAML() ([]byte, error) { return []byte(d.String()), nil }

// MarshalJSON writes the duration as it is read.
func (d Duration) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(d.String())), nil }
