// Package managed is what the drivers of servers have in common: one order at a
// time, what a driver must know after it was started again, the newest lease,
// what people should look at.
//
// Guarantees: what Memory.Change and ReplaceFile have written is on the disk when
// they return, as a whole or not at all; a memory that cannot be read is an error
// and never taken for an empty one.
package managed
