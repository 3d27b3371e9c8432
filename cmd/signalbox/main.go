// Command signalbox is the whole of Signalbox in one binary: gateway, agent, and
// the verbs for people.
//
// It guarantees stable exit codes (see exit.go) and that what -o json prints on
// standard output is one document and nothing else. It decides nothing: verbs
// read flags and configuration files into the packages' options.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// version is set when the binary is built: -ldflags "-X main.version=...".
var version = "dev"

// stdio is what a verb reads and writes. Results go to out, everything else
// (progress, warnings, logs) to err.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// run executes the command line and returns the exit code.
func run(args []string, std stdio) int {
	root := newRoot(std)
	started := false
	markStart(root, &started)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	if !started && !hasExitCode(err) {
		// Nothing ran: the command line itself was wrong.
		err = usageError{fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	}
	var silent *exitError
	if !errors.As(err, &silent) || silent.err != nil {
		fmt.Fprintf(std.err, "signalbox: %v\n", err)
	}
	return exitCode(err)
}

// markStart notes when a verb's own code starts to run: errors before that are
// wrong usage.
func markStart(cmd *cobra.Command, started *bool) {
	if verb := cmd.RunE; verb != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return verb(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		markStart(sub, started)
	}
}
