package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The groups under which the help lists the verbs.
const (
	groupDaily   = "daily"
	groupProcess = "process"
	groupSetup   = "setup"
)

// newRoot puts the verbs together; each has a file of its own.
func newRoot(std stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "signalbox",
		Short: "Move a service's mastership between data centers without a failed request",
		Long: "Signalbox moves mastership of a service from one data center to another behind Envoy:\n" +
			"no request fails, no two data centers ever serve as master, and a signed certificate proves it afterwards.\n\n" +
			"Exit codes: 0 ok, 1 failure, 2 usage, 3 refused by a rule, 4 timed out, 5 reverted, 6 conflict.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          groupRun,
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddGroup(
		&cobra.Group{ID: groupDaily, Title: "Everyday:"},
		&cobra.Group{ID: groupProcess, Title: "Processes:"},
		&cobra.Group{ID: groupSetup, Title: "Set up and check:"},
	)
	root.AddCommand(clientCommands(std)...)
	root.AddCommand(
		newVerifyCommand(std),
		newGatewayCommand(std),
		newAgentCommand(std),
		newKeysCommand(std),
		newConfigCommand(std),
		newBootstrapCommand(std),
		newDemoCommand(std),
		newDoctorCommand(std),
		newCompletionCommand(std),
		newVersionCommand(std),
		newWardenCommand(),
	)
	return root
}

// group makes a verb that only holds others, as "keys" holds "keys init".
func group(use, short, id string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, GroupID: id, Args: cobra.ArbitraryArgs, RunE: groupRun}
	cmd.AddCommand(subs...)
	return cmd
}

// groupRun answers a verb that needs a sub-verb: help when there is none, and
// a usage error that names what there is when it is unknown.
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usagef("unknown command %q for %q: there are %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))
}

// newCompletionCommand prints a shell's completion script.
func newCompletionCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a shell's completion script", GroupID: groupSetup,
		Example:   "  source <(signalbox completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(std.out, true)
			case "zsh":
				return root.GenZshCompletion(std.out)
			case "fish":
				return root.GenFishCompletion(std.out, true)
			}
			return fmt.Errorf("print completion: no such shell %q", args[0])
		},
	}
}
