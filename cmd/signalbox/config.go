package main

import (
	"bytes"
	_ "embed" // the starting files
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/rpc/identity"
)

// The kinds of configuration files.
const (
	kindGateway = "gateway"
	kindAgent   = "agent"
	kindCluster = "cluster"
)

var configKinds = []string{kindGateway, kindAgent, kindCluster}

//go:embed start/gateway.yaml
var startGateway []byte

//go:embed start/agent.yaml
var startAgent []byte

//go:embed start/cluster.yaml
var startCluster []byte

func newConfigCommand(std stdio) *cobra.Command {
	return group("config", "Write, check and compare configuration files", groupSetup,
		newConfigInitCommand(std), newConfigValidateCommand(std), newConfigDiffCommand(std), newConfigSchemaCommand(std))
}

func newConfigInitCommand(std stdio) *cobra.Command {
	var dir string
	force := false
	cmd := &cobra.Command{
		Use: "init [gateway|agent|cluster]...", Short: "Write commented configuration files to start from",
		Long:      "Writes gateway.yaml, agent.yaml and cluster.yaml (for keys init --spec), or those that are named. Existing files are kept.",
		ValidArgs: configKinds, Args: cobra.OnlyValidArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "where to write them")
	cmd.Flags().BoolVar(&force, "force", false, "replace files that exist")
	cmd.RunE = func(_ *cobra.Command, kinds []string) error {
		if len(kinds) == 0 {
			kinds = configKinds
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		for _, kind := range kinds {
			path := filepath.Join(dir, kind+".yaml")
			flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			if err := writeStart(path, kind, flags); err != nil {
				return err
			}
			fmt.Fprintln(std.out, path)
		}
		return nil
	}
	return cmd
}

func writeStart(path, kind string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if os.IsExist(err) {
		return fmt.Errorf("write configuration: %s is there already: choose another --dir, or replace it with --force", path)
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.Write(map[string][]byte{kindGateway: startGateway, kindAgent: startAgent, kindCluster: startCluster}[kind])
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func newConfigValidateCommand(std stdio) *cobra.Command {
	var kind string
	withBundle := true
	cmd := &cobra.Command{
		Use: "validate FILE...", Short: "Check configuration files",
		Long: "Checks configuration files and says file, line, column and what was expected. Exit code 2 when one is wrong.",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVar(&kind, "kind", "", "gateway, agent or cluster (default: what the file looks like)")
	cmd.Flags().BoolVar(&withBundle, "bundle", true, "check against the bundle that the file names, too")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if kind != "" && !slices.Contains(configKinds, kind) {
			return usagef("--kind %q: want one of %s", kind, strings.Join(configKinds, ", "))
		}
		var all []string
		for _, file := range files {
			if err := validateConfig(file, kind, withBundle); err != nil {
				all = append(all, err.Error())
				continue
			}
			fmt.Fprintf(std.out, "%s: ok\n", file)
		}
		if len(all) > 0 {
			return usagef("%s", strings.Join(all, "\n"))
		}
		return nil
	}
	return cmd
}

func validateConfig(file, kind string, withBundle bool) error {
	cfg, err := loadConfig(file, kind)
	if err != nil || !withBundle {
		return err
	}
	switch c := cfg.(type) {
	case *GatewayConfig:
		var cluster *identity.Cluster
		if _, cluster, err = c.loadBundle(); err == nil {
			err = c.checkFirstVoters(cluster)
		}
	case *AgentConfig:
		_, err = c.loadBundle()
	}
	return err
}

// loadConfig reads a file of a kind, or of the kind that it looks like.
func loadConfig(path, kind string) (checkable, error) {
	if kind == "" {
		data, err := readConfig(path)
		if err != nil {
			return nil, err
		}
		kind = guessKind(path, data)
	}
	switch kind {
	case kindAgent:
		return loadAgentConfig(path)
	case kindCluster:
		return loadClusterConfig(path)
	}
	return loadGatewayConfig(path)
}

// guessKind goes by a key that only one kind has, else by the file's name.
func guessKind(path string, data []byte) string {
	if file, err := parser.ParseBytes(bytes.TrimSpace(data), 0); err == nil {
		if body, bad := onlyDocument(file); bad == nil {
			if mapping, ok := body.(ast.MapNode); ok {
				for it := mapping.MapRange(); it.Next(); {
					switch it.Key().GetToken().Value {
					case "instances", "gossip":
						return kindAgent
					case "voters":
						return kindCluster
					case "services", "listen", "timing":
						return kindGateway
					}
				}
			}
		}
	}
	for _, kind := range configKinds {
		if strings.Contains(filepath.Base(path), kind) {
			return kind
		}
	}
	return kindGateway
}
