// Package model is an explicit-state model of the handover interlock (rules 1 to 5 and 8 of the design), searched breadth-first.
//
// It guarantees, within the stated bounds, that no reachable state has instances of two data centers serving at once while all
// rules hold, and it shows for each clause of the rules a shortest way to two masters when that clause is dropped.
// It does not model agreement (one append-only log stands for it), time (every timeout may happen at any moment), leases, nor the
// data plane. It shares no code with the product: when the two disagree, one of them is wrong.
package model
