//go:build race

package sim

// raced: the race detector makes a history eight times slower, and there is one
// goroutine to look at. `make test` runs all of it without.
const raced = true
