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
		Long: `connect listens on a local port for each -L and carries what local programs send
there to a service of SERVER. A service is TCP, whose connections share one
session, or, with /udp behind it, UDP, where each local address gets a session of
its own. The first sessions are opened at the start, so that a wrong key or service
shows at once. -W joins stdin and stdout with one connection instead, as ssh's
ProxyCommand wants it.

SERVER is a profile of config.toml, or a name or an address, with a port or without.
The server's key comes from --server-key, from KEY@SERVER or from the profile, and
is remembered in known_servers once the server has proven it; from then on SERVER
alone is enough, and another key for it is refused.

A session moves with this host from network to network. When the server was
restarted, or no network leads to it for a while, another session takes its place,
for ever tried again. Local UDP programs miss only what was lost on the way; TCP
connections outlive every move, but not a session that the server has lost.

On a terminal the last line tells the network, the path, its round trip and the last
move; lines above it tell what happens, and so do the events of --json.
SIGINT and SIGTERM end all sessions in order.`,
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
	f.StringArrayVarP(&o.local, "local", "L", nil, "forward `[ADDR:]PORT:SERVICE[/udp]`; without ADDR on 127.0.0.1 (repeat for more)")
	f.StringVarP(&o.stdio, "stdio", "W", "", "join stdin and stdout with one connection to a TCP `SERVICE`, and end with it")
	f.BoolVar(&o.udp, "udp", false, "services are UDP where neither /tcp nor /udp is behind them")
	f.BoolVarP(&o.noCommand, "no-command", "N", false, "only forward, as connect always does; for hands that know ssh")
	f.StringVar(&o.serverKey, "server-key", "", "the server's public `KEY`, as pubkey prints it; needed once")
	f.StringVar(&o.identity, "identity", "", "`FILE` with this client's private key; without it the server must allow anyone")
	f.StringVar(&o.pskFile, "psk-file", "", "`FILE` with the preshared key that the server has for this client")
	f.StringVar(&o.profiles, "config", "", "`FILE` with profiles (default config.toml in the user's configuration directory for xdp-roam)")
	f.StringVar(&o.known, "known-servers", "", "`FILE` with the keys of servers (default known_servers beside it)")
	f.DurationVar(&o.idle, "idle-timeout", defaultIdle, "end a UDP session that nothing went through for so long")
	f.BoolVar(&o.json, "json", false, "events on stdout, a JSON object a line (on stderr with -W), as -o jsonl")
	return c
}

// network is what a rule without a suffix means.
func (o *connectOptions) network() string {
	if o.udp {
		return forward.NetworkUDP
	}
	return forward.NetworkTCP
}
