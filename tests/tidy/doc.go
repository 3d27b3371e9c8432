// Package tidy holds the house rules as tests: what docs/adr, the design and CONTRIBUTING.md say about the shape of
// the code, each with its reason in the failure message.
//
// It guarantees that no rule is one that cannot fail: every rule has a broken tree under testdata/broken in which it
// must find exactly what the archive's "# want:" lines say. It knows nothing about behaviour; that is the other
// tests' business. Import rules for third-party packages are in .golangci.yml.
package tidy
