package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

const (
	// maxLine is the longest line of an event stream, in bytes.
	maxLine = 64 << 10
	// reconnectAfter is the pause before a broken stream is opened again.
	reconnectAfter = 200 * time.Millisecond
	// silence is how long a stream may be quiet, heartbeats included, before
	// the gateway counts as gone.
	silence = 3 * api.Heartbeat
)

// A Filter selects events; empty fields select all.
type Filter struct {
	Service, Handover string
}

// ErrStop is returned by a handler of Follow to end it; Follow returns nil then.
var ErrStop = errors.New("stop following")

// Follow hands events to handle as they happen, until handle returns an error
// or ctx ends. When the stream breaks it goes on at the next gateway; handle
// gets an event of kind reset whenever some may have been missed, first of all
// when the stream is open: from then on nothing goes unseen, so what was before
// can be asked for.
func (c *Client) Follow(ctx context.Context, f Filter, handle func(api.Event) error) error {
	lastID := ""
	fresh := true // handle has not been told to look at the current state
	for {
		gateway := c.first()
		err := c.stream(ctx, gateway, f, lastID, func(e api.Event) error {
			fresh = false
			if e.ID != "" {
				lastID = e.ID
			}
			return handle(e)
		}, fresh || lastID == "")
		var handled handlerError
		switch {
		case errors.As(err, &handled) && errors.Is(handled.error, ErrStop):
			return nil
		case errors.As(err, &handled):
			return handled.error
		case ctx.Err() != nil:
			return fmt.Errorf("follow events: %w", ctx.Err())
		case final(err):
			return fmt.Errorf("follow events: %w", err)
		}
		c.leave(gateway, err)
		pause := time.NewTimer(reconnectAfter)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("follow events: %w", ctx.Err())
		}
	}
}

// final reports whether another gateway would say the same.
func final(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code != api.CodeBusy && p.Code != api.CodeUnavailable && p.Code != api.CodeInternal
}

// handlerError is an error of the caller's own handler.
type handlerError struct{ error }

// stream follows one gateway's stream until it breaks.
func (c *Client) stream(ctx context.Context, gateway string, f Filter, lastID string, handle func(api.Event) error, reset bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := only("service", f.Service)
	if f.Handover != "" {
		query.Set("handover", f.Handover)
	}
	header := http.Header{"Accept": {"text/event-stream"}}
	if lastID != "" {
		header.Set("Last-Event-ID", lastID)
	}
	response, err := c.ask(ctx, gateway, call{method: http.MethodGet, path: "/v1/events", query: query, header: header})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	opened := false
	for lines.Scan() {
		quiet.Reset(silence)
		line := lines.Text()
		if !opened && strings.HasPrefix(line, ":") {
			opened = true // the gateway's first comment: the cursor is set
			if reset {
				if err := handle(api.Event{Kind: api.EventReset, At: time.Now(), Detail: "following " + gateway}); err != nil {
					return handlerError{err}
				}
			}
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e api.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("%w: event: %w", signalbox.ErrInvalid, err)
		}
		if err := handle(e); err != nil {
			return handlerError{err}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return fmt.Errorf("read events: %w", io.ErrUnexpectedEOF)
}
