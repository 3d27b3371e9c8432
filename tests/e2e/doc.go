// Package e2e runs the main job on real input: the built binaries, real Envoys, real load, mastership moving between two
// data centers. What happened is judged by tests/oracle, which shares no code with the product.
//
// Most tests share one site and leave it steady, so that they cost seconds; every run ends with the oracle over
// everything that was written while any of them ran.
package e2e
