// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/xdp-roam/xdp-roam/userspace/client"
)

// connectEvent is one line of `connect --json`: docs/CONNECT.md has the events, and
// which fields each has. Fields are only ever added.
type connectEvent struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// Session counts the sessions of this process, from 1.
	Session int    `json:"session,omitempty"`
	Service uint16 `json:"service,omitempty"`
	// Network is tcp or udp; Forward the local address that is listened on.
	Network string `json:"network,omitempty"`
	Forward string `json:"forward,omitempty"`
	// Interface is the network interface that Local belongs to, where the system says so.
	Interface  string `json:"interface,omitempty"`
	Local      string `json:"local,omitempty"`
	Remote     string `json:"remote,omitempty"`
	FromLocal  string `json:"from_local,omitempty"`
	FromRemote string `json:"from_remote,omitempty"`
	Observed   string `json:"observed,omitempty"`
	Generation uint32 `json:"generation,omitempty"`
	ServerKey  string `json:"server_key,omitempty"`
	PublicKey  string `json:"public_key,omitempty"`
	Message    string `json:"message,omitempty"`
	Error      string `json:"error,omitempty"`
	RetryIn    int64  `json:"retry_in_ns,omitempty"`
}

// reporter tells a person, or with --json a program, what happens. On a terminal it
// keeps a line below all others that tells how things are.
type reporter struct {
	env    *env
	events io.Writer // nil: lines for people
	quiet  bool      // -W: what its user's program shows is not to be disturbed

	mu       sync.Mutex
	terminal *os.File // nil: no status line
	shown    int      // columns of the line that stands there
	line     string   // what it says
}

func newReporter(e *env, o *connectOptions) *reporter {
	r := &reporter{env: e, quiet: o.stdio != "" && !e.verbose}
	if o.json && !e.format.isJSON() {
		e.format = formatJSONL
	}
	if e.format.isJSON() {
		r.events = e.stdout
		if o.stdio != "" {
			r.events = e.stderr
		}
	}
	if file, ok := e.stderr.(*os.File); ok && o.stdio == "" && isTerminal(file) && e.getenv("TERM") != "dumb" {
		r.terminal = file
	}
	return r
}

// emit tells of an event: its fields to a program, or the text to a person.
func (r *reporter) emit(event *connectEvent, format string, args ...any) {
	if r.events == nil {
		if format != "" {
			r.say(format, args...)
		}
		return
	}
	event.Time = r.env.now()
	text, err := json.Marshal(event)
	if err != nil {
		return // no event has what cannot be written
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.events.Write(append(text, '\n'))
}

// message is an event that is only a sentence.
func (r *reporter) message(format string, args ...any) {
	r.emit(&connectEvent{Event: "message", Message: fmt.Sprintf(format, args...)}, format, args...)
}

// say writes one line for a person.
func (r *reporter) say(format string, args ...any) {
	if r.quiet || r.events != nil {
		return
	}
	fmt.Fprintf(r, "%s %s\n", r.env.now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// Write writes whole lines to stderr, above the status line.
func (r *reporter) Write(text []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	n, err := r.env.stderr.Write(text)
	r.draw()
	return n, err
}

// logger is env's, with its lines above the status line.
func (r *reporter) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// lineEvery is how often the status line is looked at anew.
const lineEvery = time.Second

// keepLine shows what status returns on the terminal, if there is one, until ctx ends.
func (r *reporter) keepLine(ctx context.Context, status func(now time.Time) string) {
	if r.terminal == nil {
		return
	}
	ticker := time.NewTicker(lineEvery)
	defer ticker.Stop()
	for {
		line := status(r.env.now())
		r.mu.Lock()
		if line != r.line {
			r.clear()
			r.line = line
			r.draw()
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			r.close()
			return
		case <-ticker.C:
		}
	}
}

// close takes the status line away.
func (r *reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	r.line = ""
}

// clear and draw use no escape sequence but colour, so that the oldest console
// shows the line right. mu is held.
func (r *reporter) clear() {
	if r.shown > 0 {
		fmt.Fprintf(r.terminal, "\r%s\r", strings.Repeat(" ", r.shown))
		r.shown = 0
	}
}

func (r *reporter) draw() {
	if r.terminal == nil || r.line == "" {
		return
	}
	width, _, err := term.GetSize(int(r.terminal.Fd()))
	if err != nil || width < 2 {
		return
	}
	line := []rune(r.line)
	if len(line) > width-1 { // the last column would begin another line
		line = line[:width-1]
	}
	text := string(line)
	if r.env.colored(r.terminal) {
		text = "\x1b[2m" + text + "\x1b[0m"
	}
	fmt.Fprint(r.terminal, text)
	r.shown = len(line)
}

// tell tells of what happens to a session.
func (k *connection) tell(session int, service uint16, e client.Event) {
	defer k.sessions.note(session, e) // when it is told: see settle
	item := &connectEvent{
		Event: strings.ReplaceAll(e.Kind.String(), "-", "_"), Session: session, Service: service,
		Local: text(e.To.Local), Remote: text(e.To.Remote), FromLocal: text(e.From.Local), FromRemote: text(e.From.Remote),
		Observed: text(e.Addr), Generation: e.Generation,
	}
	if e.To.Local.IsValid() && k.report.events != nil {
		item.Interface = interfaceOf(e.To.Local.Addr())
	}
	if e.Err != nil {
		item.Error = e.Err.Error()
	}
	line := lineOf(e)
	if line != "" {
		line = fmt.Sprintf("service %d: %s", service, line)
	}
	if line == "" {
		k.report.emit(item, "")
		return
	}
	k.report.emit(item, "%s", line)
}

// lineOf is an event in words; empty where a person need not know.
func lineOf(e client.Event) string {
	switch e.Kind {
	case client.EventMoving:
		return fmt.Sprintf("moving from %v to %v", e.From.Local, e.To.Local)
	case client.EventMoved:
		return fmt.Sprintf("moved to %v, server %v", e.To.Local, e.To.Remote)
	case client.EventNoRoute:
		return fmt.Sprintf("waiting: %v", e.Err)
	case client.EventRouteBack:
		return "the route is back"
	case client.EventMoveFailed:
		return fmt.Sprintf("cannot move yet: %v", e.Err)
	case client.EventForwardingAlarm:
		return fmt.Sprintf("warning: someone forwards or replays the server's packets, from %v", e.To.Remote)
	case client.EventSilent:
		return fmt.Sprintf("nothing comes from %v any more, asking on every network", e.To.Remote)
	case client.EventHeard:
		return fmt.Sprintf("%v is heard again", e.To.Remote)
	case client.EventClockJump:
		return "this host has slept, looking around"
	case client.EventReopening:
		return fmt.Sprintf("%v; opening another session", e.Err)
	case client.EventReopenFailed:
		return fmt.Sprintf("no session yet: %v", e.Err)
	case client.EventReopened:
		return fmt.Sprintf("opened again with %v (number %d); what was under way is lost", e.To.Remote, e.Generation)
	}
	return ""
}

// text is an address, or nothing.
func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// interfaceOf names the network interface that has an address; empty where the
// system does not say.
func interfaceOf(addr netip.Addr) string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr.Unmap().WithZone("") {
				return i.Name
			}
		}
	}
	return ""
}
