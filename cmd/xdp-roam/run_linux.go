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
		Short: "Run the edge: load the data plane, terminate sessions, forward to services",
		Long: `run is the daemon. It loads the data plane, attaches it to the interfaces, accepts
sessions and connects each to the backend of the service that it asks for. It ends on
SIGINT or SIGTERM, and after "drain" with the last session. It then tells the clients
and removes everything that it attached, pinned or created; what "load" created before
stays. It rereads authorized_keys when that file changes, and on SIGHUP. Under systemd
(Type=notify) it reports when it is ready, and feeds the watchdog as long as its workers
make progress.

A file provides the settings; flags override it:
  listen = ":7626"
  interfaces = ["eth0"]
  mode = "auto"                # auto, afxdp, xdp, generic, socket, none
  key_file = "server.key"
  previous_key_file = "old.key"         # during key rotation
  addresses = ["192.0.2.1", "2001:db8::1"]   # where else clients can reach it
  authorized_keys = "authorized_keys"   # or: allow_anonymous = true
  state_dir = "/var/lib/xdp-roam"
  table_slots = 1048576
  cookie = "auto"              # auto, always, never
  [metrics]                    # optional
  listen = "127.0.0.1:9626"    # Prometheus: http://127.0.0.1:9626/metrics
  page = true                  # a status page: http://127.0.0.1:9626/
  token_file = "metrics.token" # required unless it listens on loopback
  [[service]]
  port = 7
  name = "echo"                # optional, for authorized_keys
  backend = "echo:"            # echo:, discard:, tcp://host:port, udp://host:port, unix:///path

Modes: xdp is native XDP in the driver. afxdp adds an AF_XDP socket on each receive
queue, so that packets of established sessions bypass the kernel's network stack.
generic is XDP in the stack (slower, any NIC). socket steers at the sockets only. auto
takes the best of afxdp, xdp and socket that driver and kernel support, and says why.
none uses no BPF and needs no privileges: everything works, but nothing is filtered
before it reaches the daemon.`,
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
