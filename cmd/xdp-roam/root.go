// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
)

// run executes one command line and returns its exit code. The first SIGINT,
// SIGTERM or, unless nohup ignores it, SIGHUP cancels the command's context; a
// second one kills the process, because a command that hangs must be stoppable.
func run(e *env) int {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRootCommand(e)
	root.SetArgs(e.args)
	return e.report(root.ExecuteContext(ctx))
}

// globalFlags is what a command's help says instead of listing them once more.
const globalFlags = "  `xdp-roam --help` lists those of every command: -o, -v, --instance and others"

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "xdp-roam",
		Short: "Sessions that survive a change of the client's address",
		Long: `xdp-roam keeps sessions alive while the client's IP address and port change. An edge
server steers packets by session id, in XDP, and accepts a new address only after a
cryptographic path validation.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not loaded, 4 permission,
5 unsupported kernel or NIC, 6 conflict.`,
		Example: `  xdp-roam demo
  xdp-roam run --config /etc/xdp-roam/edge.toml
  xdp-roam connect edge.example.net -L 2222:ssh`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{"auto", "always", "never"}, e.color) {
				return usage("--color %q: write auto, always or never", e.color)
			}
			return config.CheckInstance(e.instance)
		},
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// The flags after the bad one were not read: look for -o here, so that the error has the form asked for.
		for i, arg := range e.args {
			if value, ok := strings.CutPrefix(arg, "--output="); ok {
				_ = e.format.Set(value)
			} else if (arg == "-o" || arg == "--output") && i+1 < len(e.args) {
				_ = e.format.Set(e.args[i+1])
			}
		}
		return &fault{code: exitUsage, err: err, fix: fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
	})

	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}", globalFlags, 1))

	e.format = formatTable
	flags := root.PersistentFlags()
	flags.VarP(&e.format, "output", "o", "output format")
	flags.BoolVar(&e.noHeaders, "no-headers", false, "omit table headers")
	flags.StringVar(&e.color, "color", "auto", "use colour: `WHEN` is auto, always or never; NO_COLOR is honoured")
	flags.BoolVarP(&e.verbose, "verbose", "v", false, "more diagnostics on stderr")
	flags.StringVar(&e.bpffs, "bpffs", "/sys/fs/bpf", "`DIR` where the BPF file system is mounted")
	flags.StringVar(&e.instance, "instance", config.DefaultInstance, "`NAME` of the edge instance")
	flags.StringVar(&e.control, "control", "", "`PATH` of the daemon's control socket (default /run/xdp-roam/INSTANCE.sock)")

	root.AddCommand(
		newKeygenCommand(e),
		newPubkeyCommand(e),
		newGenpskCommand(e),
		newConnectCommand(e),
		newKnownCommand(e),
		newDemoCommand(e),
		newConfigCommand(e),
		newVersionCommand(e),
		newManCommand(e),
	)
	root.AddCommand(platformCommands(e)...)
	return root
}

// group is a command that only holds others; its example is that of the first.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: commands[0].Example, Args: noCommand, RunE: func(cmd *cobra.Command, _ []string) error {
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return usage("%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
	}}
	c.AddCommand(commands...)
	return c
}

// noCommand refuses what follows a group and is none of its commands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	what := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		what += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return &fault{code: exitUsage, what: what, fix: fmt.Sprintf("`%s --help` lists the commands", cmd.CommandPath())}
}

// arguments turns cobra's complaint about the number of arguments into a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &fault{code: exitUsage, err: err, fix: "usage: " + cmd.UseLine()}
		}
		return nil
	}
}

// canceled is true when a signal ended the command, which is no failure.
func canceled(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}
