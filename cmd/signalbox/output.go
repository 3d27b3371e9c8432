package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// The output formats of -o.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// outputFlag is -o. The zero value is a table.
type outputFlag string

// addOutput adds -o to a verb; wide is offered where the verb has wide tables.
func addOutput(cmd *cobra.Command, wide bool) *outputFlag {
	o := new(outputFlag)
	formats := []string{formatTable, formatJSON, formatYAML}
	if wide {
		formats = slices.Insert(formats, 1, formatWide)
	}
	cmd.Flags().VarP(&formatValue{o, formats}, "output", "o", "output: "+strings.Join(formats, "|"))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there only
	return o
}

// formatValue checks -o when it is parsed.
type formatValue struct {
	to      *outputFlag
	formats []string
}

func (v *formatValue) String() string {
	if v.to == nil || *v.to == "" {
		return formatTable
	}
	return string(*v.to)
}

func (v *formatValue) Type() string { return "format" }

func (v *formatValue) Set(s string) error {
	if !slices.Contains(v.formats, s) {
		return fmt.Errorf("want one of %s", strings.Join(v.formats, ", "))
	}
	*v.to = outputFlag(s)
	return nil
}

// write prints value as one JSON or YAML document, or has table print it for a
// person.
func (o outputFlag) write(w io.Writer, value any, table func(w io.Writer, wide bool) error) error {
	switch string(o) {
	case formatJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(value)
	case formatYAML:
		data, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return table(w, string(o) == formatWide)
}

// rows prints lines of cells in columns; the first row is the heading.
func rows(w io.Writer, lines [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}
