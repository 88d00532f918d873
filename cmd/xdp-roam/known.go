// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/known"
)

func newKnownCommand(e *env) *cobra.Command {
	return group("known", "Manage the server keys that `connect` remembers", "The list is a file of this user; docs/CONNECT.md says how servers are added to it.",
		newKnownListCommand(e), newKnownForgetCommand(e))
}

// knownItem is one server that is known.
type knownItem struct {
	Server    string `json:"server"`
	PublicKey string `json:"public_key"`
	Line      int    `json:"line"`
}

func addKnownFlag(c *cobra.Command, o *connectOptions) {
	c.Flags().StringVar(&o.known, "known-servers", "", "`FILE` with the keys (default known_servers in the user's configuration directory for xdp-roam)")
}

func (o *connectOptions) knownFile() (*known.File, error) {
	path, err := o.path(o.known, "known_servers")
	if err != nil {
		return nil, &fault{err: err, fix: "use --known-servers FILE to choose another file"}
	}
	return &known.File{Path: path}, nil
}

func newKnownListCommand(e *env) *cobra.Command {
	var o connectOptions
	c := &cobra.Command{
		Use:   "list",
		Short: "List the servers and their keys",
		Long: `list shows the servers whose keys "connect" remembers because the server has proved
that it holds them, and where the file is.`,
		Example: `  xdp-roam known list`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			file, err := o.knownFile()
			if err != nil {
				return err
			}
			entries, err := file.List()
			if err != nil {
				return err
			}
			items := make([]knownItem, len(entries))
			for i, one := range entries {
				items[i] = knownItem{Server: one.Server, PublicKey: one.Key.String(), Line: one.Line}
			}
			return show(e, "KnownServer", items, []column[knownItem]{
				{name: "server", value: func(i knownItem) string { return i.Server }},
				{name: "public key", value: func(i knownItem) string { return i.PublicKey }},
			})
		},
	}
	addKnownFlag(c, &o)
	return c
}

func newKnownForgetCommand(e *env) *cobra.Command {
	var o connectOptions
	c := &cobra.Command{
		Use:   "forget SERVER",
		Short: "Forget a server's key after its operator has changed it",
		Long: `forget removes a server's key from the list, so that "connect" accepts another one,
given by --server-key or a profile. Ask the operator for it: an unannounced change of
key is what an attack looks like.`,
		Example: `  xdp-roam known forget edge.example.net`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := o.knownFile()
			if err != nil {
				return err
			}
			n, err := file.Forget(args[0])
			if err == nil && n == 0 {
				return &fault{what: fmt.Sprintf("%s is not in %s", args[0], file.Path), fix: "`xdp-roam known list` shows the entries"}
			}
			return err
		},
	}
	addKnownFlag(c, &o)
	return c
}
