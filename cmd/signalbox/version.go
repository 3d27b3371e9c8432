package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/rpc"
)

// versionInfo is what version prints.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	System  string `json:"system"`
	// Format is the version of the signed formats (rpc.Version).
	Format int `json:"format"`
}

func readVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Format: rpc.Version}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}

func newVersionCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version", GroupID: groupSetup, Args: cobra.NoArgs}
	output := addOutput(cmd, false)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := readVersion()
		return output.write(std.out, v, func(w io.Writer, _ bool) error {
			_, err := fmt.Fprintf(w, "signalbox %s (%s, %s, signed formats v%d)\n", v.Version, v.Go, v.System, v.Format)
			return err
		})
	}
	return cmd
}
