package report

import (
	"fmt"
	"strings"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// acks is the ack matrix: who had to give evidence, and did.
func acks(h *api.Handover) *section {
	if len(h.Acks) == 0 {
		return nil
	}
	given, refused := 0, 0
	rows := [][]string{{"INSTANCE", "DATA CENTER", "EVIDENCE", "DRAINED", "GIVEN", "IN FLIGHT", "PROBLEM"}}
	for _, a := range h.Acks {
		evidence := a.Evidence
		switch {
		case evidence == "refuse":
			refused++
		case evidence != "":
			given++
		case h.Done():
			evidence = "none"
		default:
			evidence = "waiting"
		}
		if a.Position != "" {
			evidence += " at " + a.Position
		}
		rows = append(rows, []string{a.Instance, a.DataCenter, evidence, msOr(a.DrainedMS, "-"), msOr(a.AckedMS, "-"), count(a.InFlight), orNone(a.Problem)})
	}
	note := fmt.Sprintf("%d of %d gave evidence (%s counts)", given, len(h.Acks), strings.ReplaceAll(h.Allowed, "+", " or "))
	if refused > 0 {
		note += fmt.Sprintf(", %d refused", refused)
	}
	return &section{Title: "Acks", Note: note + "; times since the start", Rows: rows}
}

func promotions(h *api.Handover) *section {
	if len(h.Promotions) == 0 {
		return nil
	}
	serving := 0
	rows := [][]string{{"INSTANCE", "DATA CENTER", "SERVING", "ADDRESS", "PROBLEM"}}
	for _, p := range h.Promotions {
		if p.ServingMS != nil {
			serving++
		}
		rows = append(rows, []string{p.Instance, p.DataCenter, msOr(p.ServingMS, "-"), orNone(p.Address), orNone(p.Problem)})
	}
	return &section{Title: "Promoted", Note: fmt.Sprintf("%d of %d serve", serving, len(h.Promotions)), Rows: rows}
}

// proxies lists those with a story to tell, and counts the others.
func proxies(h *api.Handover) *section {
	if len(h.Proxies) == 0 {
		return nil
	}
	held, last, late := 0, 0.0, 0
	rows := [][]string{{"PROXY", "DATA CENTER", "HELD", "RELEASED", "LATE", "PROBLEM"}}
	for _, p := range h.Proxies {
		if p.HeldMS != nil {
			held++
			last = max(last, *p.HeldMS)
		}
		word := "-"
		if p.Late {
			late++
			word = "late"
		}
		rows = append(rows, []string{p.ID, p.DataCenter, msOr(p.HeldMS, "-"), msOr(p.ReleasedMS, "-"), word, orNone(p.Problem)})
	}
	note := fmt.Sprintf("%d of %d held", held, len(h.Proxies))
	if held > 0 {
		note += ", the last " + Milliseconds(last) + " after the start"
	}
	return &section{Title: "Proxies", Note: fmt.Sprintf("%s; %d late", note, late), Rows: rows}
}

// losses are what a failover was expected to lose, and what it lost.
func losses(h *api.Handover) *section {
	if h.ExpectedLoss == nil && len(h.Lost) == 0 {
		return nil
	}
	rows := [][]string{{"DATA", "DETAIL"}}
	if h.ExpectedLoss != nil {
		words := h.ExpectedLoss.Words()
		for _, a := range h.Acks {
			if a.Position != "" {
				words = "nothing: " + a.Instance + " said where its data ended, and the new master has it"
			}
		}
		rows = append(rows, []string{"expected loss", words})
	}
	for i := range h.Lost {
		rows = append(rows, []string{"lost", h.Lost[i].Words()})
	}
	if h.ExpectedLoss != nil && len(h.Lost) == 0 && h.Done() {
		rows = append(rows, []string{"lost", "not known until the old master is back"})
	}
	return &section{Title: "Data", Rows: rows}
}

// problems are what stands in no other table.
func problems(h *api.Handover) *section {
	var rows [][]string
	seen := map[string]bool{}
	for _, p := range h.Proxies {
		seen[p.ID] = true
	}
	for _, id := range h.LateProxies {
		if !seen[id] {
			rows = append(rows, []string{id, "did not acknowledge the hold in time, or was gone"})
		}
	}
	if h.EventsDropped > 0 {
		rows = append(rows, []string{"timeline", fmt.Sprintf("%d events were dropped to keep the record small", h.EventsDropped)})
	}
	if len(rows) == 0 {
		return nil
	}
	return &section{Title: "Notes", Rows: append([][]string{{"WHAT", "DETAIL"}}, rows...)}
}

func certificate(h *api.Handover) *section {
	c := h.Certificate
	if c == nil {
		return nil
	}
	summary := c.Summary
	if summary == "" {
		by := fmt.Sprintf("%d pieces of evidence", c.Evidence)
		if c.Fallback {
			by = "a refuse, which voids the switch"
		}
		summary = fmt.Sprintf("%s is master of %s at term %d: the voters' signatures and %s.", c.Master, c.Service, c.Term, by)
	}
	rows := [][]string{{"TERM", "MASTER", "EVIDENCE", "SCHEME", "BLOCK"},
		{fmt.Sprintf("%s@%d", c.Service, c.Term), c.Master, count(uint64(c.Evidence)), orNone(c.Scheme), orNone(c.Block)}}
	return &section{Title: "Certificate", Note: summary, Rows: rows}
}
