//go:build !linux

package agent

import "os"

// dataSync makes what was written durable.
func dataSync(f *os.File) error { return f.Sync() }
