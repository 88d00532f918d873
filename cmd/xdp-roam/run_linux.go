// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
)

// loaderOptions name the instance that the global flags mean.
func (e *env) loaderOptions() loader.Options {
	return loader.Options{BPFFS: e.bpffs, Instance: e.instance}
}

func newRunCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "run [--config FILE]",
		Example: `  xdp-roam run --config edge.toml
  xdp-roam run --mode none --key-file server.key --allow-anonymous --service 7=echo: --state-dir state`,
		Short: "The edge: load and attach the data plane, terminate sessions, forward to services",
		Long: `run is the daemon. It loads the data plane, attaches it to the interfaces, accepts
sessions and connects each to the backend of the service that it asks for. It
stops at SIGINT or SIGTERM, and when "drain" has seen its last session end: clients
are told, and everything that it attached, pinned or made is removed; what "load"
made before stays. SIGHUP makes it read authorized_keys again, which it does by
itself, too, when that file changes. Started by systemd (Type=notify), it says when
it is ready, and keeps the watchdog content for as long as its workers work.

A file gives the settings, flags override it:
  listen = ":7626"
  interfaces = ["eth0"]
  mode = "auto"                # auto, afxdp, xdp, generic, socket, none
  key_file = "server.key"
  previous_key_file = "old.key"         # while the key is rotated
  addresses = ["192.0.2.1", "2001:db8::1"]   # where else clients can go
  authorized_keys = "authorized_keys"   # or: allow_anonymous = true
  state_dir = "/var/lib/xdp-roam"
  table_slots = 1048576
  cookie = "auto"              # auto, always, never
  [metrics]                    # may be left out
  listen = "127.0.0.1:9626"    # Prometheus: http://127.0.0.1:9626/metrics
  page = true                  # a status page: http://127.0.0.1:9626/
  token_file = "metrics.token" # what both ask for; needed beyond loopback
  [[service]]
  port = 7
  name = "echo"                # for authorized_keys; may be left out
  backend = "echo:"            # echo:, discard:, tcp://host:port, udp://host:port, unix:///path

Modes: xdp is native XDP in the driver; afxdp puts an AF_XDP socket behind it on
each receive queue, so that packets of established sessions pass the kernel's stack
by; generic is XDP in the stack (slower, any NIC); socket steers at the sockets
alone; auto takes the best of afxdp, xdp and socket that driver and kernel have,
and says why. none uses no BPF and needs no privileges: all
works, but nothing is filtered before it reaches the daemon.`,
		Args: arguments(cobra.NoArgs),
	}
	settings := addSettings(e, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		conf, err := settings.read(c.Flags())
		if err != nil {
			return err
		}
		// Whoever read the log may go: that must not kill the daemon and leave its programs attached.
		signal.Ignore(syscall.SIGPIPE)
		d, err := newEdge(e, conf)
		if err != nil {
			return err
		}
		d.hangup = reloads()
		if err := d.start(); err != nil {
			return errors.Join(err, d.stop())
		}
		fmt.Fprintln(e.stderr, d.ready())
		d.startSupervision()
		select {
		case <-c.Context().Done():
		case <-d.drain.over:
		}
		d.log.Info("stopping: telling the clients and removing the data plane")
		d.notify(systemd.SdNotifyStopping)
		return d.stop()
	}
	return c
}
