package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
)

// The codes of problems. They are stable: programs may rely on them.
const (
	CodeInvalid       = "invalid"
	CodeConflict      = "conflict"
	CodeExpectation   = "expectation"
	CodeRefused       = "refused"
	CodeApproval      = "approval"
	CodeNotReady      = "not-ready"
	CodeUnknown       = "unknown"
	CodeUntrusted     = "untrusted"
	CodeUnsigned      = "unsigned"
	CodeNotConfigured = "not-configured"
	CodeUnavailable   = "unavailable"
	CodeTooLarge      = "too-large"
	CodeKeyReused     = "key-reused"
	CodeBusy          = "busy"
	CodeInternal      = "internal"
)

// problemType is what a code looks like as the URI that RFC 9457 asks for.
const problemType = "urn:signalbox:problem:"

// A Problem is an RFC 9457 problem document: what every failed request gets, as
// application/problem+json. As an error it wraps the root package's sentinel of
// its code, so errors.Is works on both sides of the wire.
type Problem struct {
	Type   string `json:"type" format:"uri" doc:"urn:signalbox:problem:<code>"`
	Title  string `json:"title" doc:"What kind of problem it is; the same for every problem of the code"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What happened"`
	Code   string `json:"code" enum:"invalid,conflict,expectation,approval,refused,not-ready,unknown,untrusted,unsigned,not-configured,unavailable,too-large,key-reused,busy,internal" doc:"Stable code for programs"`
	Do     string `json:"do" doc:"What to do about it"`
	// Handover, Current and Checks are there when they help.
	Handover string          `json:"handover,omitempty" doc:"The handover that is in the way"`
	Current  string          `json:"current,omitempty" doc:"What is certified now, west@8"`
	Checks   []Check         `json:"checks,omitempty" doc:"The checks that failed"`
	Errors   []ProblemDetail `json:"errors,omitempty" doc:"What is wrong with the request, one by one"`
}

// A ProblemDetail is one thing that is wrong with a request.
type ProblemDetail struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Where, for example body.to or header.If-Match"`
}

// Error returns the detail with each thing that is wrong.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for i, e := range p.Errors {
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0])
		if e.Location != "" {
			b.WriteString(e.Location + ": ")
		}
		b.WriteString(e.Message)
	}
	return b.String()
}

// Unwrap returns the sentinel of the code, or nil.
func (p *Problem) Unwrap() error { return SentinelOf(p.Code) }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of problems.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// kind is what all problems of a code have in common.
type kind struct {
	code     string
	status   int
	sentinel error
	title    string
	do       string
}

// kinds is the table of problems, most specific first; docs/reference/problems.md
// is made from it.
var kinds = []kind{
	{CodeExpectation, http.StatusPreconditionFailed, signalbox.ErrExpectation, "The expectation does not hold", "Nothing was moved. Look at what is master now (signalbox status), and ask again with that expectation if the switch is still wanted."},
	{CodeConflict, http.StatusConflict, signalbox.ErrConflict, "Another handover is in the way", "Follow the other handover (signalbox watch) and ask again when it is over."},
	{CodeApproval, http.StatusForbidden, signalbox.ErrRefused, "Somebody else has to approve it", "Another operator: signalbox cutover approve ID. The order waits, and begins with the last approval that is needed."},
	{CodeRefused, http.StatusForbidden, signalbox.ErrRefused, "A rule says no", "The detail names the rule. Change what it looks at; repeating the request does not help."},
	{CodeNotReady, http.StatusConflict, signalbox.ErrNotReady, "A readiness check fails", "Mend what the failed checks name (signalbox plan SERVICE TO shows all of them), then ask again."},
	{CodeUnknown, http.StatusNotFound, signalbox.ErrUnknown, "There is no such thing here", "Look at the names that exist: signalbox service list, signalbox history."},
	{CodeUntrusted, http.StatusForbidden, signalbox.ErrUntrusted, "The certificate does not allow this", "Use an operator's bundle (--bundle): signalbox keys issue operator makes one."},
	{CodeUnsigned, http.StatusForbidden, signalbox.ErrUnsigned, "This counts only with the operator's own signature", "Give it with the command line (an operator's bundle signs), or send a mandate: approvals, pauses, break-glass and orders that others have to approve need one."},
	{CodeNotConfigured, http.StatusNotImplemented, signalbox.ErrNotConfigured, "This is not configured", "Configure it on the gateways, or ask for something that does not need it."},
	{CodeUnavailable, http.StatusServiceUnavailable, signalbox.ErrUnavailable, "Too few voters answer", "Nothing or everything may have been decided. Ask again with the same Idempotency-Key: it starts nothing twice."},
	{CodeTooLarge, http.StatusRequestEntityTooLarge, signalbox.ErrInvalid, "The request is too large", "Send less: the detail names the maximum."},
	{CodeKeyReused, http.StatusUnprocessableEntity, signalbox.ErrInvalid, "The Idempotency-Key was used for another request", "Use a fresh key for each new request; a repeated request repeats its body too."},
	{CodeInvalid, http.StatusUnprocessableEntity, signalbox.ErrInvalid, "The request is malformed", "Correct what the detail names; /openapi.json describes every request."},
	{CodeBusy, http.StatusServiceUnavailable, nil, "Too many requests at once", "Wait a second and ask again, or ask another gateway."},
	{CodeInternal, http.StatusInternalServerError, nil, "The gateway failed", "Look at the gateway's log for this time. Asking again with the same Idempotency-Key is safe."},
}

func kindOf(code string) kind {
	for _, k := range kinds {
		if k.code == code {
			return k
		}
	}
	return kinds[len(kinds)-1]
}

// SentinelOf returns the root package's error for a problem's code, or nil when
// it has none (busy, internal).
func SentinelOf(code string) error { return kindOf(code).sentinel }

// AdviceOf returns what to do about problems of a code in general.
func AdviceOf(code string) string { return kindOf(code).do }

// newProblem returns a problem of a code.
func newProblem(code, detail string) *Problem {
	k := kindOf(code)
	return &Problem{Type: problemType + k.code, Title: k.title, Status: k.status, Detail: detail, Code: k.code, Do: k.do}
}

// problemOf turns any error into a problem. What has no sentinel is internal.
func problemOf(err error) *Problem {
	var known *Problem
	if errors.As(err, &known) {
		return known
	}
	code := CodeInternal
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = CodeUnavailable
	default:
		for _, k := range kinds {
			if k.sentinel != nil && errors.Is(err, k.sentinel) {
				code = canonical(k.sentinel)
				break
			}
		}
	}
	var fault *Fault
	if errors.As(err, &fault) && fault.Code != "" {
		code = fault.Code
	}
	p := newProblem(code, err.Error())
	if fault != nil {
		p.Handover, p.Current, p.Checks = fault.Handover, fault.Current, fault.Checks
		if fault.Do != "" {
			p.Do = fault.Do
		}
	}
	return p
}

// canonical is the code of a sentinel that several codes share.
func canonical(sentinel error) string {
	code := CodeInternal
	for _, k := range kinds {
		if k.sentinel == sentinel { //nolint:errorlint // identity: the table holds the sentinels themselves
			code = k.code
		}
	}
	return code
}

// translate makes problems of ours out of what huma itself finds wrong.
func translate(_ huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := CodeInvalid
	switch {
	case model.Status == http.StatusRequestEntityTooLarge:
		code = CodeTooLarge
	case model.Status == http.StatusNotFound:
		code = CodeUnknown
	case model.Status >= http.StatusInternalServerError:
		code = CodeInternal
	}
	p := newProblem(code, model.Detail)
	p.Status = model.Status
	for _, e := range model.Errors {
		if e != nil {
			p.Errors = append(p.Errors, ProblemDetail{Message: e.Message, Location: e.Location})
		}
	}
	return p, nil
}

// ProblemsReference returns docs/reference/problems.md.
func ProblemsReference() string {
	var b strings.Builder
	b.WriteString("<!-- Code generated from gateway/api: go test ./gateway/api -run Reference -update. DO NOT EDIT. -->\n\n# Problems\n\n" +
		"Every failed request is answered with an RFC 9457 document (`application/problem+json`). `code` is stable; `type` is `" + problemType + "` and the code;\n" +
		"`detail` says what happened and `do` what to do about it. `handover`, `current`, `checks` and `errors` are there where they help.\n\n" +
		"| code | status | means | what to do |\n| --- | --- | --- | --- |\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", k.code, k.status, k.title, strings.ReplaceAll(k.do, "|", "\\|"))
	}
	return b.String()
}
