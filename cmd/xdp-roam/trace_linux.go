// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/capture"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func newTraceCommand(e *env) *cobra.Command {
	t := tracer{env: e}
	c := &cobra.Command{
		Use:   "trace [SESSION] [--pcapng FILE]",
		Short: "Show a session's packets and what became of each at every stage",
		Long: `trace follows one session of a running edge. It shows the packets that arrive for it at
the stages xdp, socket and server, each with verdict and reason, and the packets that
the server sends. SESSION is the beginning of one of its ids. A packet is shown once per
stage that it reaches. Without SESSION, trace shows the headers of a sample of what
the data plane drops, answers or finds elsewhere, whichever session it belongs to.

Payloads stay encrypted: no key is written anywhere. Packets of stage xdp start with
their Ethernet header; packets of stage server get IP headers made from their addresses.
docs/wireshark/roam.lua teaches Wireshark ROAM/1. Tracing slows down the traced session
only. The data plane reports at most a few thousand packets per second; stats counts
the others as trace_limit. trace ends with the session, after --count or --duration, or
on Ctrl-C.`,
		Example: `  xdp-roam trace 2a5daec7
  xdp-roam trace 2a5daec7 --pcapng roam.pcapng --duration 30s
  xdp-roam trace 2a5daec7 --pcapng - | wireshark -X lua_script:docs/wireshark/roam.lua -k -i -`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				t.session = strings.ToLower(args[0])
			}
			return t.run(c.Context())
		},
	}
	flags := c.Flags()
	flags.StringVar(&t.file, "pcapng", "", "write the packets to `FILE` (- for stdout) for Wireshark instead of a table")
	flags.IntVarP(&t.count, "count", "n", 0, "stop after `N` packets (default never)")
	flags.DurationVar(&t.duration, "duration", 0, "stop after `D` (default never)")
	flags.IntVar(&t.snaplen, "snaplen", 0, "keep only the first `N` bytes of each packet (default all; the data plane provides about 2000)")
	return c
}

// tracer is one run of trace.
type tracer struct {
	env      *env
	session  string
	file     string
	count    int
	duration time.Duration
	snaplen  int

	seen int
}

// errEnough ends a trace that has shown as many packets as were wanted.
var errEnough = errors.New("enough packets")

func (t *tracer) run(ctx context.Context) (err error) {
	if t.count < 0 || t.duration < 0 || t.snaplen < 0 {
		return usage("--count, --duration and --snaplen: write how much, or 0 for no end")
	}
	if t.env.format == formatJSON && t.file == "" && t.count == 0 && t.duration == 0 {
		return usage("a trace has no end, and a JSON document has: take -o jsonl, or --count")
	}
	client := control.NewClient(t.env.controlPath())
	if t.session != "" {
		if t.session, err = t.resolve(ctx, client); err != nil {
			return err
		}
	} else if _, err := client.Status(ctx); err != nil {
		return err // before a file is made
	}
	if t.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.duration)
		defer cancel()
	}
	if t.file != "" {
		return t.capture(ctx, client)
	}
	p := newPrinter(t.env, control.KindPacket, t.env.packetColumns())
	err = t.follow(ctx, client, func(packet *control.Packet) error {
		if err := p.print(*packet); err != nil || t.env.format == formatJSON {
			return err
		}
		return p.flush()
	})
	return errors.Join(err, p.close())
}

// resolve returns the whole id of the one session that is meant.
func (t *tracer) resolve(ctx context.Context, client *control.Client) (string, error) {
	details, err := client.Details(ctx, t.session)
	if err != nil {
		return "", err
	}
	var found []wire.ID
	for _, d := range details {
		found = append(found, d.ID)
	}
	if err := t.env.one(t.session, found); err != nil {
		return "", err
	}
	return found[0].String(), nil
}

// follow shows packets until there are no more, or no more are wanted.
func (t *tracer) follow(ctx context.Context, client *control.Client, show func(*control.Packet) error) error {
	each := func(p control.Packet) error {
		if p.Lost > 0 {
			fmt.Fprintf(t.env.stderr, "missed %d packets: they came faster than they were read\n", p.Lost)
		}
		if err := show(&p); err != nil {
			return err
		}
		if t.seen++; t.seen == t.count {
			return errEnough
		}
		return nil
	}
	var err error
	if t.session != "" {
		err = client.Trace(ctx, t.session, t.snaplen, each)
	} else {
		q := control.EventQuery{Kinds: []string{control.ClassPacket}, Last: -1, Follow: true}
		err = client.Events(ctx, q, func(e control.Event) error { return each(control.PacketOf(&e)) })
	}
	switch {
	case errors.Is(err, errEnough), ctx.Err() != nil:
		return nil
	case err == nil:
		fmt.Fprintln(t.env.stderr, "the session has ended")
	}
	return err
}

// capture writes a file, which is whole after each packet.
func (t *tracer) capture(ctx context.Context, client *control.Client) error {
	var out io.Writer = t.env.stdout
	var file *os.File
	if t.file != "-" {
		var err error
		if file, err = os.OpenFile(t.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
		out = file
	}
	w := capture.New(out, "xdp-roam "+version)
	err := w.Flush()
	if err == nil {
		err = t.follow(ctx, client, func(p *control.Packet) error {
			if err := w.Write(p); err != nil {
				return err
			}
			return w.Flush()
		})
	}
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	fmt.Fprintf(t.env.stderr, "%d packets written\n", t.seen)
	return err
}

func (e *env) packetColumns() []column[control.Packet] {
	return []column[control.Packet]{
		{name: "time", width: 15, value: func(p control.Packet) string { return p.Time.Local().Format("15:04:05.000000") }},
		{name: "stage", width: 6, value: func(p control.Packet) string { return p.Stage }},
		{name: "verdict", width: 8, value: func(p control.Packet) string { return p.Verdict }},
		{name: "reason", width: 15, value: func(p control.Packet) string { return p.Reason }},
		{name: "remote", width: 21, value: func(p control.Packet) string { return p.Remote.String() }},
		{name: "id", width: 12, value: func(p control.Packet) string {
			if p.ID.IsZero() {
				return ""
			}
			return e.sessionID(p.ID)
		}},
		{name: "counter", width: 7, value: func(p control.Packet) string {
			if p.Counter == nil {
				return ""
			}
			return strconv.FormatUint(*p.Counter, 10)
		}},
		{name: "bytes", width: 5, value: func(p control.Packet) string { return strconv.Itoa(p.Bytes) }},
		{name: "session", value: func(p control.Packet) string {
			if p.Session.IsZero() {
				return ""
			}
			return e.sessionID(p.Session)
		}, wide: true},
		{name: "local", value: func(p control.Packet) string { return p.Local.String() }, wide: true},
		{name: "interface", value: func(p control.Packet) string { return p.Interface }, wide: true},
		{name: "queue", value: func(p control.Packet) string { return strconv.Itoa(p.Queue) }, wide: true},
	}
}
