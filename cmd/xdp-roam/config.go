// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
)

func newConfigCommand(e *env) *cobra.Command {
	return group("config", "Check or show the configuration that `run` would use", `config takes the flags of "run", so that it sees exactly the configuration that run would use.`, newConfigCheckCommand(e), newConfigShowCommand(e))
}

// checkItem is what `config check` prints.
type checkItem struct {
	File           string `json:"file"`
	Services       int    `json:"services"`
	AuthorizedKeys int    `json:"authorized_keys"`
	PublicKey      string `json:"public_key"`
}

func newConfigCheckCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [--config FILE]",
		Short: "Check the configuration and the files that it refers to",
		Long: `check reads what "run" would read and reports all errors at once: file and line, the
key, and what to write instead. It then exits with 2. It loads nothing and listens
nowhere.`,
		Example: `  xdp-roam config check --config /etc/xdp-roam/edge.toml`,
		Args:    arguments(cobra.NoArgs),
	}
	settings := addSettings(e, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		conf, err := settings.read(c.Flags())
		if err != nil {
			return err
		}
		key, err := readKeyFile(conf.KeyFile)
		if err != nil {
			return err
		}
		if _, err := readPreviousKey(conf, key); err != nil {
			return err
		}
		if _, err := conf.Metrics.ReadToken(); err != nil {
			return err
		}
		item := checkItem{File: settings.file, Services: len(conf.Services), PublicKey: key.Public().String()}
		if conf.AuthorizedKeys != "" {
			keys, err := config.ReadAuthorized(conf.AuthorizedKeys, conf.Services)
			if err != nil {
				return err
			}
			if err := keys.Check(conf.AuthorizedKeys); err != nil {
				return err
			}
			for _, warning := range keys.Warnings {
				fmt.Fprintln(e.stderr, "warning:", warning)
			}
			item.AuthorizedKeys = len(keys.Clients)
		}
		return show(e, "ConfigCheck", []checkItem{item}, []column[checkItem]{
			{name: "result", value: func(checkItem) string { return "ok" }},
			{name: "services", value: func(c checkItem) string { return fmt.Sprint(c.Services) }},
			{name: "authorized keys", value: func(c checkItem) string {
				if conf.AllowAnonymous {
					return "anyone"
				}
				return fmt.Sprint(c.AuthorizedKeys)
			}},
			{name: "public key", value: func(c checkItem) string { return c.PublicKey }},
		})
	}
	return c
}

func newConfigShowCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "show [--config FILE]",
		Short: "Print the effective configuration (defaults, file and flags) as TOML",
		Long: `show prints every setting that "run" would use, in the format of the file, or with
-o json as JSON with the same names.`,
		Example: `  xdp-roam config show --config /etc/xdp-roam/edge.toml --mode xdp`,
		Args:    arguments(cobra.NoArgs),
	}
	settings := addSettings(e, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		conf, err := settings.read(c.Flags())
		if err != nil {
			return err
		}
		var text strings.Builder
		encoder := toml.NewEncoder(&text)
		encoder.Indent = ""
		if err := encoder.Encode(conf); err != nil {
			return err
		}
		if !e.format.isJSON() {
			_, err = fmt.Fprint(e.stdout, text.String())
			return err
		}
		// Through TOML and back, so that both forms have the same keys.
		var item map[string]any
		if _, err := toml.Decode(text.String(), &item); err != nil {
			return err
		}
		return writeJSON(e.stdout, e.format, "Config", []map[string]any{item})
	}
	return c
}
