package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// batchSize is how many events a stream takes out of the ring at once.
const batchSize = 64

type eventsInput struct {
	Service  string `query:"service" maxLength:"40" doc:"Only this service's"`
	Handover string `query:"handover" maxLength:"80" doc:"Only this handover's"`
	LastID   string `header:"Last-Event-ID" maxLength:"128" doc:"The last event that was seen: the stream goes on after it"`
}

func (in *eventsInput) wants(e *Event) bool {
	return (in.Service == "" || e.Service == in.Service) && (in.Handover == "" || e.Handover == in.Handover)
}

func (s *server) registerEvents(api huma.API) {
	op := operation("events", http.MethodGet, "/v1/events", "handovers", "Follow events",
		"Server-sent events as they happen: the event's name is its kind, its data the event as JSON. With Last-Event-ID the stream goes on after that event. "+
			"An event of kind reset says that some were missed (too slow, too long away, or another gateway's id): ask for the current state.")
	op.Responses = map[string]*huma.Response{"200": {Description: "A stream of events", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[Event](), true, "")}}}}
	huma.Register(api, op, func(_ context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		leave, ok := s.streams.enter()
		if !ok {
			p := newProblem(CodeBusy, fmt.Sprintf("this gateway has %d event streams already", MaxStreams))
			return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			defer leave()
			_, w := humago.Unwrap(ctx)
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
			control := http.NewResponseController(w)
			s.stream(ctx.Context(), &sender{w: w, control: control}, in)
			_ = control.SetWriteDeadline(time.Time{}) // the connection may carry other requests
		}}, nil
	})
}

// stream sends events until the reader or the gateway goes.
func (s *server) stream(ctx context.Context, out *sender, in *eventsInput) {
	cursor, missed := s.options.Events.cursor(in.LastID)
	if out.send("retry: 1000\n: events follow\n\n") != nil {
		return
	}
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for {
		b := s.options.Events.read(cursor, batchSize)
		if missed || b.missed {
			missed = false
			if out.event(&Event{At: time.Now(), Kind: EventReset, Detail: "events were missed: ask for the current state"}) != nil {
				return
			}
		}
		for i := range b.events {
			if in.wants(&b.events[i]) && out.event(&b.events[i]) != nil {
				return
			}
		}
		cursor = b.next
		if len(b.events) > 0 {
			continue
		}
		if b.closed {
			return
		}
		select {
		case <-b.wake:
		case <-beat.C:
			if out.send(": alive\n\n") != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// sender writes server-sent events, each within WriteTimeout.
type sender struct {
	w       io.Writer
	control *http.ResponseController
}

func (o *sender) event(e *Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	id := ""
	if e.ID != "" {
		id = "id: " + e.ID + "\n"
	}
	return o.send(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, e.Kind, data))
}

func (o *sender) send(text string) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
		return fmt.Errorf("bound write: %w", err)
	}
	if _, err := io.WriteString(o.w, text); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return o.control.Flush()
}
