// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/service"
)

// settings joins the configuration file and the flags of `run`, which
// `config` takes as well so that it judges exactly what `run` would do.
type settings struct {
	env      *env
	file     string
	flags    config.Config
	mode     string
	services []string
}

func addSettings(e *env, c *cobra.Command) *settings {
	s := &settings{env: e, flags: config.Default()}
	f, d := c.Flags(), config.Default()
	f.StringVar(&s.file, "config", "", "read this TOML `FILE`; flags override it")
	f.StringVar(&s.flags.Listen, "listen", d.Listen, "UDP `ADDR:PORT`; without ADDR, all addresses of both families")
	f.StringSliceVar(&s.flags.Interfaces, "interface", nil, "attach XDP to this `IFACE` (repeat for more)")
	f.StringVar(&s.mode, "mode", string(d.Mode), "`MODE`: auto, afxdp (in the driver, with AF_XDP sockets), xdp (in the driver), generic (in the stack), socket (no XDP) or none (no BPF, no privileges)")
	f.StringVar(&s.flags.KeyFile, "key-file", "", "`FILE` with the server's private key, as keygen writes it")
	f.StringVar(&s.flags.PreviousKeyFile, "previous-key-file", "", "`FILE` with the previous key, which is still served during key rotation")
	f.StringSliceVar(&s.flags.Addresses, "address", nil, "tell clients that the server can also be reached at `ADDR[:PORT]` (repeat for more)")
	f.StringVar(&s.flags.AuthorizedKeys, "authorized-keys", "", "`FILE` with one client per line: public key, name, options")
	f.BoolVar(&s.flags.AllowAnonymous, "allow-anonymous", false, "serve every client, whatever its key")
	f.StringVar(&s.flags.StateDir, "state-dir", d.StateDir, "`DIR` for the state secret")
	f.Uint32Var(&s.flags.TableSlots, "table-slots", d.TableSlots, "`N` slots in the session table, a power of two")
	f.StringVar(&s.flags.Cookie, "cookie", d.Cookie, "`WHEN` to require address cookies: auto, always or never")
	f.StringVar(&s.flags.Metrics.Listen, "metrics", "", "serve Prometheus metrics on TCP `ADDR:PORT`, such as 127.0.0.1:9626")
	f.StringVar(&s.flags.Metrics.TokenFile, "metrics-token-file", "", "`FILE` with the bearer token for --metrics; required unless it listens on loopback")
	f.BoolVar(&s.flags.Metrics.Page, "page", false, "serve a status page there as well (default address "+config.DefaultMetrics+")")
	f.StringArrayVar(&s.services, "service", nil, "forward service `PORT=BACKEND`, such as 22=tcp://localhost:22 or 53=udp://127.0.0.1:53 (repeat for more)")
	return s
}

// read returns the checked configuration: defaults, then the file, then the flags.
func (s *settings) read(set *pflag.FlagSet) (config.Config, error) {
	c := config.Default()
	if s.file != "" {
		err := c.ReadFile(s.file)
		if errors.Is(err, fs.ErrNotExist) {
			return c, &fault{err: err, fix: "use --config to choose another file, or flags instead; `xdp-roam run --help` shows an example"}
		}
		if err != nil {
			return c, err
		}
	}
	override := map[string]func(){
		"listen":             func() { c.Listen = s.flags.Listen },
		"interface":          func() { c.Interfaces = s.flags.Interfaces },
		"mode":               func() { c.Mode = config.Mode(s.mode) },
		"key-file":           func() { c.KeyFile = s.flags.KeyFile },
		"previous-key-file":  func() { c.PreviousKeyFile = s.flags.PreviousKeyFile },
		"address":            func() { c.Addresses = s.flags.Addresses },
		"authorized-keys":    func() { c.AuthorizedKeys = s.flags.AuthorizedKeys },
		"allow-anonymous":    func() { c.AllowAnonymous = s.flags.AllowAnonymous },
		"state-dir":          func() { c.StateDir = s.flags.StateDir },
		"table-slots":        func() { c.TableSlots = s.flags.TableSlots },
		"cookie":             func() { c.Cookie = s.flags.Cookie },
		"metrics":            func() { c.Metrics.Listen = s.flags.Metrics.Listen },
		"metrics-token-file": func() { c.Metrics.TokenFile = s.flags.Metrics.TokenFile },
		"page":               func() { c.Metrics.Page = s.flags.Metrics.Page },
		"instance":           func() { c.Instance = s.env.instance },
	}
	for name, apply := range override {
		if set.Changed(name) {
			apply()
		}
	}
	if set.Changed("service") {
		c.Services = nil
		for _, text := range s.services {
			one, err := config.ParseService(text)
			if err != nil {
				return c, err
			}
			c.Services = append(c.Services, one)
		}
	}
	// From here on every part of the process means the same instance.
	s.env.instance = c.Instance
	return c, c.Validate(checkService)
}

func checkService(s config.Service) error {
	_, err := service.New(s.Backend, s.Limits(), nil)
	return err
}
