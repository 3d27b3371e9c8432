package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// barWidth is the length of the interruption on the terminal, in columns.
const barWidth = 40

// Terminal writes the report as plain text. It has no colours and no control
// characters, whatever the record holds.
func Terminal(w io.Writer, h *api.Handover) error {
	p := newPage(h)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  [%s]\n%s\n%s\n\n", p.Title, strings.ToUpper(p.Verdict), strings.Repeat("=", len(p.Title)+len(p.Verdict)+4), p.Sentence)
	pairs(&b, append([]fact{{"handover", p.ID}}, p.Facts...))
	if len(p.Phases) > 0 {
		fmt.Fprint(&b, "\nPhases: milliseconds since the start; the bar is the interruption\n")
		table(&b, phaseRows(p.Phases))
	}
	for _, s := range p.Sections {
		fmt.Fprintf(&b, "\n%s", s.Title)
		if s.Note != "" {
			fmt.Fprintf(&b, ": %s", s.Note)
		}
		fmt.Fprintln(&b)
		table(&b, s.Rows)
	}
	fmt.Fprintln(&b, "\nWhere to look next")
	pairs(&b, p.Next)
	_, err := io.WriteString(w, Plain(b.String()))
	return err
}

func pairs(w io.Writer, list []fact) {
	rows := make([][]string, len(list))
	for i, f := range list {
		rows[i] = []string{f.Label, f.Text}
	}
	table(w, rows)
}

// table aligns rows in columns, indented by two, without trailing blanks.
func table(w io.Writer, rows [][]string) {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = Plain(strings.Join(strings.Fields(c), " "))
			if strings.HasPrefix(c, "|") { // a bar: its blanks say something
				cells[i] = c
			}
		}
		fmt.Fprintln(tw, "  "+strings.Join(cells, "\t"))
	}
	_ = tw.Flush() // a buffer does not fail
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func phaseRows(phases []phase) [][]string {
	rows := [][]string{{"PHASE", "BEGIN", "END", "TOOK", ""}}
	for _, p := range phases {
		bar := ""
		if p.Interrupts {
			left := min(int(p.Left*barWidth/100+0.5), barWidth-1)
			width := max(int(p.Width*barWidth/100+0.5), 1)
			bar = strings.Repeat(" ", left) + strings.Repeat("#", min(width, barWidth-left))
			bar = "|" + bar + strings.Repeat(" ", barWidth-len(bar)) + "|"
		}
		rows = append(rows, []string{p.Name, p.Begin, orNone(p.End), p.Took, bar})
	}
	return rows
}

// Plain replaces control characters but newline and tab: what came over the
// network must not steer somebody's terminal.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, s)
}
