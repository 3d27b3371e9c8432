package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var updateCLI = flag.Bool("update-cli", false, "write docs/reference/cli.md anew")

// TestCLIReferenceIsCurrent holds docs/reference/cli.md to what the commands say
// of themselves.
func TestCLIReferenceIsCurrent(t *testing.T) {
	var out bytes.Buffer
	out.WriteString("<!-- Code generated from cmd/signalbox: go test ./cmd/signalbox -run CLIReference -update-cli. DO NOT EDIT. -->\n\n# Command line\n\n")
	root := newRoot(stdio{})
	fmt.Fprintf(&out, "%s\n", root.Long)
	describeCommands(&out, root)
	path := filepath.Join("..", "..", "docs", "reference", "cli.md")
	if *updateCLI {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, out.Bytes()) {
		t.Errorf("%s is not current (%v): go test ./cmd/signalbox -run CLIReference -update-cli", path, err)
	}
}

// describeCommands writes a section for each command below c that does something.
func describeCommands(out *bytes.Buffer, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		if !sub.HasSubCommands() || sub.Runnable() && sub.Name() == "demo" {
			describeCommand(out, sub)
		}
		describeCommands(out, sub)
	}
}

func describeCommand(out *bytes.Buffer, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	use := strings.TrimSuffix(c.UseLine(), " [flags]")
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n```\n%s\n```\n", c.CommandPath(), text, use)
	if c.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	rows := ""
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		flagName := "--" + f.Name
		if f.Shorthand != "" {
			flagName = "-" + f.Shorthand + ", " + flagName
		}
		if name != "" {
			flagName += " " + name
		}
		preset := ""
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" && !strings.Contains(usage, "default") {
			preset = "`" + f.DefValue + "`"
		}
		rows += fmt.Sprintf("| `%s` | %s | %s |\n", flagName, strings.ReplaceAll(usage, "|", ", "), preset)
	})
	if rows != "" {
		fmt.Fprintf(out, "\n| flag | what | default |\n| --- | --- | --- |\n%s", rows)
	}
}
