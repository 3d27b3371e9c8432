// Package policy decides whether a handover may begin, by the safety rules of
// the configuration (freeze windows, a minimum interval, standing instances,
// approvals) and by what people said in the agreed log (pauses, approvals,
// break-glass).
//
// Guarantees: it is pure; the time is an argument. A rule that stands in the way
// says which, why, until when and what to do. What it looks at beside the
// configuration comes from the log, so that every voter decides by itself and
// the same. Only handovers that begin are looked at: the way back of an open
// one, giving up, evidence and outcomes are never held up by a rule.
//
// It does not guarantee that there are not two masters; that is package
// handover's, and nothing here weakens it. Times in the log are the clocks of
// those who proposed, so rules about time are as exact as those clocks.
package policy
