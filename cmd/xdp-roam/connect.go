// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
	"github.com/xdp-roam/xdp-roam/userspace/client"
)

// connection is one run of `connect`.
type connection struct {
	env    *env
	config client.Config // without Service
	idle   time.Duration
	rules  []forward.Rule

	mu sync.Mutex // one status line at a time
}

func newConnectCommand(e *env) *cobra.Command {
	var (
		rules               []string
		udp                 bool
		serverKey, identity string
	)
	k := &connection{env: e}
	c := &cobra.Command{
		Use:   "connect SERVER --server-key KEY --udp -L [ADDR:]PORT:SERVICE...",
		Short: "Reach a server's services through sessions that survive a change of address",
		Long: `connect listens on a local UDP port for each -L and carries what local programs
send there to a service of SERVER (a name or an address, with a port or without).
Each local address gets a session of its own. The first session of each -L is
opened at the start, so that a wrong key or service shows at once.

A session moves with this host from network to network. When the server was
restarted, or no network leads to it for a while, another session takes its
place: local programs keep their sockets and miss only what was lost on the way.

stderr tells when a session opens, moves, falls silent, is opened again or ends.
SIGINT and SIGTERM end all sessions in order.`,
		Example: `  xdp-roam connect edge.example.net --server-key "$(cat server.pub)" --udp -L 5353:53
  dig @127.0.0.1 -p 5353 example.net`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := k.prepare(c.Context(), args[0], rules, udp, serverKey, identity); err != nil {
				return err
			}
			return k.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&rules, "local", "L", nil, "forward `[ADDR:]PORT:SERVICE`; without ADDR on 127.0.0.1 (repeat for more)")
	f.BoolVar(&udp, "udp", false, "the services speak UDP; the only kind in this release")
	f.StringVar(&serverKey, "server-key", "", "the server's public `KEY`, as pubkey prints it")
	f.StringVar(&identity, "identity", "", "`FILE` with this client's private key; without it the server must allow anyone")
	f.DurationVar(&k.idle, "idle-timeout", 5*time.Minute, "end a session that nothing went through for so long")
	return c
}

// prepare checks and reads everything that the command line names.
func (k *connection) prepare(ctx context.Context, server string, rules []string, udp bool, serverKey, identity string) error {
	if len(rules) == 0 {
		return usage("nothing to forward: name a local port and a service, such as -L 5353:53")
	}
	if !udp {
		return usage("add --udp: this release forwards UDP services only")
	}
	if k.idle < time.Second {
		return usage("--idle-timeout %v: write at least 1s", k.idle)
	}
	for _, text := range rules {
		rule, err := forward.ParseRule(text)
		if err != nil {
			return usage("-L %v", err)
		}
		k.rules = append(k.rules, rule)
	}
	if serverKey == "" {
		return usage("no --server-key: `xdp-roam pubkey < server.key` on the server prints it")
	}
	if err := k.config.ServerKey.UnmarshalText([]byte(serverKey)); err != nil {
		return usage("--server-key: %v", err)
	}
	var err error
	if identity != "" {
		if k.config.Identity, err = readKeyFile(identity); err != nil {
			return err
		}
	}
	// A name that does not resolve shows before anything is opened; Dial asks for
	// the addresses again, as they may change.
	if _, err = client.Resolve(ctx, server); err != nil {
		return err
	}
	k.config.Server = server
	if k.env.verbose {
		k.config.Log = k.env.logger()
	}
	return nil
}

// run forwards until ctx ends.
func (k *connection) run(ctx context.Context) error {
	forwarders := make([]*forward.UDP, len(k.rules))
	spares := make([]*client.Session, len(k.rules))
	defer func() {
		for i, f := range forwarders {
			if f != nil {
				f.Local.Close()
			}
			if spares[i] != nil {
				spares[i].Close(0, "")
			}
		}
	}()
	// All sockets before the first session: a port in use is the commoner mistake.
	for i, rule := range k.rules {
		local, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(rule.Local))
		if err != nil {
			return k.listenFault(rule, err)
		}
		forwarders[i] = &forward.UDP{Local: local, Idle: k.idle, Report: k.report, Dial: func(ctx context.Context) (forward.Session, error) {
			return k.dial(ctx, rule.Service)
		}}
	}
	for i, rule := range k.rules {
		session, err := k.dial(ctx, rule.Service)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("service %d: %w", rule.Service, err)
		}
		spares[i] = session
		k.report("connected to %v (key %v) %s", session.RemoteAddr(), k.config.ServerKey, k.who())
		k.report("%v forwards to service %d", forwarders[i].Local.LocalAddr(), rule.Service)
	}
	return k.forward(ctx, forwarders, spares)
}

func (k *connection) forward(ctx context.Context, forwarders []*forward.UDP, spares []*client.Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error)
	for i, f := range forwarders {
		go func() {
			err := f.Run(ctx, spares[i])
			cancel() // one that fails ends all
			ended <- err
		}()
	}
	var first error
	for range forwarders {
		if err := <-ended; first == nil && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	return first
}

func (k *connection) listenFault(rule forward.Rule, err error) error {
	f := &fault{what: fmt.Sprintf("cannot listen on %v", rule.Local), err: err}
	if owners := portOwners(rule.Local.Port()); len(owners) > 0 {
		f.fix = fmt.Sprintf("the port is used by %s; name another one", owners[0])
	}
	return f
}

func (k *connection) who() string {
	if k.config.Identity.IsZero() {
		return "anonymously"
	}
	return "as " + k.config.Identity.Public().String()
}

func (k *connection) dial(ctx context.Context, service uint16) (*client.Session, error) {
	config := k.config
	config.Service = service
	name := fmt.Sprintf("service %d", service)
	config.OnEvent = func(event client.Event) { k.tell(name, event) }
	return client.Dial(ctx, config)
}

// tell writes the events that a person wants to know of.
func (k *connection) tell(session string, event client.Event) {
	switch event.Kind {
	case client.EventMoving:
		k.report("%s: moving from %v to %v", session, event.From.Local, event.To.Local)
	case client.EventMoved:
		k.report("%s: moved to %v, server %v", session, event.To.Local, event.To.Remote)
	case client.EventNoRoute:
		k.report("%s: waiting: %v", session, event.Err)
	case client.EventRouteBack:
		k.report("%s: the route is back", session)
	case client.EventMoveFailed:
		k.report("%s: cannot move yet: %v", session, event.Err)
	case client.EventForwardingAlarm:
		k.report("%s: warning: someone forwards or replays the server's packets, from %v", session, event.To.Remote)
	case client.EventSilent:
		k.report("%s: nothing comes from %v any more, asking on every network", session, event.To.Remote)
	case client.EventHeard:
		k.report("%s: %v is heard again", session, event.To.Remote)
	case client.EventClockJump:
		k.report("%s: this host has slept, looking around", session)
	case client.EventReopening:
		k.report("%s: %v; opening another session", session, event.Err)
	case client.EventReopenFailed:
		k.report("%s: no session yet: %v", session, event.Err)
	case client.EventReopened:
		k.report("%s: opened again with %v (number %d); what was under way is lost", session, event.To.Remote, event.Generation)
	}
}

// report writes one status line.
func (k *connection) report(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fmt.Fprintf(k.env.stderr, "%s %s\n", k.env.now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
