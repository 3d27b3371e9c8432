package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// change is one difference between two configurations.
type change struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

func newConfigDiffCommand(std stdio) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "diff FILE FILE", Short: "Compare what two configuration files mean",
		Long: "Compares what two files mean: defaults are filled in, and the order of keys and of named list entries,\n" +
			"comments and notation do not count. Prints nothing when they mean the same.",
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&kind, "kind", "", "gateway, agent or cluster (default: what the first file looks like)")
	output := addOutput(cmd, false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		a, err := flatConfig(args[0], kind)
		if err != nil {
			return err
		}
		b, err := flatConfig(args[1], kind)
		if err != nil {
			return err
		}
		changes := compare(a, b)
		return output.write(std.out, changes, func(w io.Writer, _ bool) error {
			for _, c := range changes {
				switch {
				case c.From == "":
					fmt.Fprintf(w, "+ %s: %s\n", c.Path, c.To)
				case c.To == "":
					fmt.Fprintf(w, "- %s: %s\n", c.Path, c.From)
				default:
					fmt.Fprintf(w, "~ %s: %s -> %s\n", c.Path, c.From, c.To)
				}
			}
			return nil
		})
	}
	return cmd
}

// flatConfig reads a configuration as leaf values by path.
func flatConfig(path, kind string) (map[string]string, error) {
	cfg, err := loadConfig(path, kind)
	if err != nil {
		return nil, err
	}
	data, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("compare configuration: %w", err)
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("compare configuration: %w", err)
	}
	out := map[string]string{}
	flatten(out, "", tree)
	return out, nil
}

// flatten names a list's entries by their name where they have one, so that
// their order does not matter.
func flatten(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			flatten(out, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		for i, value := range v {
			label := fmt.Sprint(i)
			if m, ok := value.(map[string]any); ok && m["name"] != nil {
				label = fmt.Sprint(m["name"])
			}
			flatten(out, fmt.Sprintf("%s[%s]", path, label), value)
		}
	case nil:
	case string:
		if v != "" {
			out[path] = v
		}
	default:
		text, _ := json.Marshal(v) // numbers and booleans
		out[path] = string(text)
	}
}

func compare(a, b map[string]string) []change {
	changes := []change{}
	for path, from := range a {
		if to := b[path]; to != from {
			changes = append(changes, change{path, from, to})
		}
	}
	for path, to := range b {
		if _, both := a[path]; !both {
			changes = append(changes, change{path, "", to})
		}
	}
	slices.SortFunc(changes, func(x, y change) int { return strings.Compare(x.Path, y.Path) })
	return changes
}
