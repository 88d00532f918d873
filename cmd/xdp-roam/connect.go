// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
)

// connectOptions are the flags of `connect`.
type connectOptions struct {
	local     []string
	stdio     string
	udp       bool
	noCommand bool
	json      bool
	idle      time.Duration

	serverKey, identity, pskFile string
	profiles, known              string
}

const defaultIdle = 5 * time.Minute

func newConnectCommand(e *env) *cobra.Command {
	var o connectOptions
	c := &cobra.Command{
		Use:   "connect SERVER [-L [ADDR:]PORT:SERVICE]... [-W SERVICE]",
		Short: "Reach a server's services through sessions that survive a change of address",
		Long: `connect listens on a local port for each -L and forwards what local programs send
there to a service of SERVER. Services are TCP, whose connections share one session,
or, with /udp appended, UDP, where each local address gets its own session. The first
sessions are opened at startup, so that a wrong key or service is reported at once.
-W connects stdin and stdout to one connection instead, for ssh's ProxyCommand.

SERVER is a profile in config.toml, or a name or address with an optional port. The
server's key comes from --server-key, from KEY@SERVER or from the profile. It is
remembered in known_servers once the server has proved that it holds it; from then on
SERVER alone is enough, and any other key for it is refused.

Sessions follow this host from network to network. If the server was restarted, or no
network reaches it for a while, a new session replaces the old one; connect keeps trying
indefinitely. UDP programs lose only what was in flight. TCP connections survive every
move, but not the loss of the session at the server.

On a terminal the last line shows the network, the path, its round-trip time and the
last move; the lines above it show events, as does --json. SIGINT and SIGTERM close all
sessions cleanly.`,
		Example: `  xdp-roam connect edge.example.net --server-key "$(cat server.pub)" -L 2222:ssh -L 5353:53/udp
  ssh -o ProxyCommand="xdp-roam connect edge.example.net -W %p" me@edge.example.net
  xdp-roam connect office`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			k := &connection{env: e}
			k.report = newReporter(e, &o)
			defer k.report.close()
			if err := k.prepare(c.Context(), args[0], &o, c.Flags().Changed); err != nil {
				return err
			}
			return explain(k.run(c.Context()))
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.local, "local", "L", nil, "forward `[ADDR:]PORT:SERVICE[/udp]`; ADDR defaults to 127.0.0.1 (repeat for more)")
	f.StringVarP(&o.stdio, "stdio", "W", "", "connect stdin and stdout to one connection to a TCP `SERVICE`, and exit with it")
	f.BoolVar(&o.udp, "udp", false, "treat services as UDP unless /tcp is appended")
	f.BoolVarP(&o.noCommand, "no-command", "N", false, "accepted for users of ssh: connect always only forwards")
	f.StringVar(&o.serverKey, "server-key", "", "the server's public `KEY`, as printed by pubkey; needed only once")
	f.StringVar(&o.identity, "identity", "", "`FILE` with this client's private key; without one the server must allow anonymous clients")
	f.StringVar(&o.pskFile, "psk-file", "", "`FILE` with the preshared key that this client shares with the server")
	f.StringVar(&o.profiles, "config", "", "`FILE` with profiles (default config.toml in the user's configuration directory for xdp-roam)")
	f.StringVar(&o.known, "known-servers", "", "`FILE` with the keys of servers (default known_servers in the same directory)")
	f.DurationVar(&o.idle, "idle-timeout", defaultIdle, "end a UDP session after this time without traffic")
	f.BoolVar(&o.json, "json", false, "print events as one JSON object per line on stdout (with -W on stderr), like -o jsonl")
	return c
}

// network is what a rule without a suffix means.
func (o *connectOptions) network() string {
	if o.udp {
		return forward.NetworkUDP
	}
	return forward.NetworkTCP
}
