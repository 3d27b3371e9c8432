package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

func (s *server) registerBackup(api huma.API) {
	op := operation("backup-journal", http.MethodGet, "/v1/journal/backup", "journal", "Copy the journal",
		"A consistent copy of this gateway's journal. It has no private keys. A response that ends early is no backup.")
	op.Responses = map[string]*huma.Response{"200": {Description: "The journal", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}}
	huma.Register(api, op, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		leave, ok := s.backups.enter()
		if !ok {
			p := newProblem(CodeBusy, fmt.Sprintf("this gateway writes %d backups already", MaxBackups))
			return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			defer leave()
			_, w := humago.Unwrap(ctx)
			s.backup(ctx.Context(), w)
		}}, nil
	})
}

func (s *server) backup(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="journal.db"`)
	out := &patient{w: w, control: http.NewResponseController(w)}
	err := s.options.Archivist.Backup(ctx, out)
	_ = out.control.SetWriteDeadline(time.Time{}) // the connection may carry other requests
	switch {
	case err == nil:
	case out.written == 0:
		w.Header().Del("Content-Disposition")
		writeProblem(w, problemOf(fmt.Errorf("back up journal: %w", err)))
	default:
		s.options.Log.Warn().Err(err).Int64("bytes", out.written).Msg("journal backup broke off")
		panic(http.ErrAbortHandler) // the reader must not take half a journal for a whole one
	}
}

// patient gives each write its own time, and counts.
type patient struct {
	w       io.Writer
	control *http.ResponseController
	written int64
}

// Write writes within WriteTimeout.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
		return 0, fmt.Errorf("bound write: %w", err)
	}
	n, err := p.w.Write(b)
	p.written += int64(n)
	return n, err
}
