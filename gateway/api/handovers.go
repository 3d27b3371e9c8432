package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
)

type (
	handoversInput struct {
		Service string `query:"service" maxLength:"40" doc:"Only this service's"`
		Before  string `query:"before" maxLength:"80" doc:"Only older ones than this id"`
		Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
	}
	handoverInput struct {
		ID string `path:"id" maxLength:"80" doc:"The handover's id"`
	}
	certificateOutput struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Body        []byte
	}
)

func (s *server) registerHandovers(api huma.API) {
	huma.Register(api, operation("list-handovers", http.MethodGet, "/v1/handovers", "handovers", "List handovers",
		"The history, newest first, open ones included, without their details."),
		answering(s.handovers))
	huma.Register(api, operation("get-handover", http.MethodGet, "/v1/handovers/{id}", "handovers", "Show a handover",
		"The whole cutover record; of an open handover what is known so far.", CodeUnknown),
		answering(func(ctx context.Context, in *handoverInput) (*reply[Handover], error) {
			h, err := s.options.Historian.Handover(ctx, in.ID)
			return &reply[Handover]{whole(h)}, err
		}))
	certificate := operation("get-certificate", http.MethodGet, "/v1/handovers/{id}/certificate", "handovers", "Get the certificate",
		"The certificate alone, as `signalbox verify` reads it: JSON, or its bytes where this gateway has no JSON form.", CodeUnknown, CodeNotReady)
	certificate.Responses = map[string]*huma.Response{"200": {Description: "The certificate", Content: map[string]*huma.MediaType{
		"application/json": {}, "application/octet-stream": {}}}}
	huma.Register(api, certificate, answering(s.certificate))
}

func (s *server) handovers(ctx context.Context, in *handoversInput) (*reply[HandoverList], error) {
	page := Page{Service: in.Service, Before: in.Before, Limit: min(in.Limit, MaxPage)}
	list, err := s.options.Historian.Handovers(ctx, page)
	if err != nil {
		return nil, err
	}
	out := HandoverList{Handovers: []Handover{}}
	for _, h := range list[:min(len(list), page.Limit)] {
		h.Acks, h.Promotions, h.Proxies, h.Events, h.Certificate = nil, nil, nil, nil, nil
		out.Handovers = append(out.Handovers, whole(h))
	}
	if len(out.Handovers) == page.Limit {
		out.Next = out.Handovers[page.Limit-1].ID
	}
	return &reply[HandoverList]{out}, nil
}

func (s *server) certificate(ctx context.Context, in *handoverInput) (*certificateOutput, error) {
	h, err := s.options.Historian.Handover(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c := h.Certificate
	if c == nil {
		return nil, &Fault{
			Err: fmt.Errorf("%w: handover %s has no certificate (outcome: %s)", signalbox.ErrNotReady, h.ID, h.Outcome),
			Do:  "Wait until it is over (signalbox watch " + h.Service + "); a superseded handover never gets one.",
		}
	}
	name := fmt.Sprintf("attachment; filename=%q", fmt.Sprintf("%s-%d.cert", c.Service, c.Term))
	if len(c.Document) > 0 && json.Valid(c.Document) {
		return &certificateOutput{"application/json", name, c.Document}, nil
	}
	return &certificateOutput{"application/octet-stream", name, c.Raw}, nil
}

func whole(h Handover) Handover {
	h.Phases = some(h.Phases)
	return h
}
