package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/signalbox-io/signalbox/gateway/api"
)

//go:embed report.html.tmpl
var htmlTemplate string

// HTML writes the report as one self-contained page without scripts.
func HTML(w io.Writer, h *api.Handover) error {
	t, err := template.New("report").Parse(htmlTemplate)
	if err != nil {
		return fmt.Errorf("parse report template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, newPage(h)); err != nil {
		return fmt.Errorf("render report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}
