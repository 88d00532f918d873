// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Config says how Run plays. Only Binary must be set.
type Config struct {
	// Binary is the xdp-roam program: its `run` is the edge, its hidden
	// `demo part` plays the parts.
	Binary string
	// Rate is the client's datagrams each second, 500 when zero.
	Rate int
	// Pause is how long the client keeps still between moves, 2 s when zero.
	Pause time.Duration
	// Mode is the edge's: "xdp" when empty, or "afxdp".
	Mode string
	// Progress gets a line for each step, with the time since the start. Nil: nobody.
	Progress func(at time.Duration, line string)
}

// What the parts are given.
const (
	servicePort  = 9000
	roamService  = 7                // the service port that the client asks the edge for
	datagramSize = 200              // bytes
	patience     = 30 * time.Second // for what an idle machine does at once
)

// director holds one run together.
type director struct {
	config  Config
	began   Instant
	report  *Report
	scratch *lab.Scratch
	net     *lab.Topology
	witness *Witness
	ledger  Ledger
	control *control.Client
	context context.Context
	fail    context.CancelCauseFunc

	edge, service, client, attacker *process

	mu      sync.Mutex // guards volleys and paths
	volleys []Volley
	paths   []netip.AddrPort
}

// Run plays the demo. An error means that it could not be played to its end;
// whether the expectations held is in the report. Nothing is left behind.
func Run(ctx context.Context, config Config) (report *Report, err error) {
	if config.Rate == 0 {
		config.Rate = 500
	}
	if config.Mode == "" {
		config.Mode = "xdp"
	}
	if config.Pause == 0 {
		config.Pause = 2 * time.Second
	}
	d := &director{config: config, began: now(), report: newReport(config)}
	d.context, d.fail = context.WithCancelCause(ctx)
	defer d.fail(nil)
	defer func() {
		// Also when something panicked: then after everything was removed.
		err = errors.Join(err, d.remove())
	}()
	if err := d.build(); err != nil {
		return nil, d.cause(err)
	}
	if err := d.play(); err != nil {
		return nil, d.cause(err)
	}
	d.report.Took = now().Sub(d.began)
	d.report.judge()
	return d.report, nil
}

// cause returns what err came from: whoever asks a part that dies learns that its
// connection is broken a moment before anybody knows of the end.
func (d *director) cause(err error) error {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-d.context.Done():
		return context.Cause(d.context)
	case <-timer.C:
		return err
	}
}

func newReport(config Config) *Report {
	r := &Report{Started: time.Now(), Rate: config.Rate, Size: datagramSize}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		r.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return r
}

// step announces what happens next.
func (d *director) step(format string, args ...any) {
	if d.config.Progress != nil {
		d.config.Progress(now().Sub(d.began), fmt.Sprintf(format, args...))
	}
}

// sleep lets time pass; it ends early, with the cause, when something failed.
func (d *director) sleep(t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.context.Done():
		return context.Cause(d.context)
	}
}

// until polls a condition that ends well within the limit or fails the run.
func (d *director) until(what string, limit time.Duration, done func() (bool, error)) error {
	for end := now().Add(limit); ; {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		if now() > end {
			return fmt.Errorf("%s: not within %v%s", what, limit, d.edge.stderr.quote())
		}
		if err := d.sleep(2 * time.Millisecond); err != nil {
			return err
		}
	}
}

// build makes the network and starts the edge, the service and the attacker.
func (d *director) build() error {
	d.step("building the network: client, two NAT routers, core, edge, backend, attacker")
	scratch, left, err := lab.NewScratch("", "xdproam-demo")
	if err != nil {
		return err
	}
	d.scratch = scratch
	if left > 0 {
		d.step("removed what %d killed run(s) had left in %s", left, os.TempDir())
	}
	if d.net, err = lab.NewTopology(); err != nil {
		return err
	}
	if d.witness, err = NewWitness(d.net, wire.DefaultPort); err != nil {
		return err
	}
	stamp := make([]byte, 8)
	rand.Read(stamp)
	common := Setup{
		Stamp: binary.BigEndian.Uint64(stamp), Rate: d.config.Rate, Size: datagramSize,
		Listen: netip.AddrPortFrom(lab.BackendV4, servicePort),
		Servers: []netip.AddrPort{
			netip.AddrPortFrom(lab.EdgeV4, wire.DefaultPort), netip.AddrPortFrom(lab.EdgeV6, wire.DefaultPort),
		},
		Service: roamService,
		Taps:    3, MAC: lab.AttackerMAC, GatewayMAC: lab.AttackerGateway,
	}
	server, client := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	identity, err := client.MarshalText()
	if err != nil {
		return err
	}
	common.ServerKey, common.Identity = server.Public().String(), string(identity)
	if d.service, err = d.startPart(d.net.Backend, PartService, common, nil); err != nil {
		return err
	}
	if err := d.startEdge(server, client.Public()); err != nil {
		return err
	}
	if err := d.startAttacker(common); err != nil {
		return err
	}
	return d.startClient(common)
}

// startPart starts a part of ours and waits until it is ready.
func (d *director) startPart(ns *lab.Namespace, name string, setup Setup, files []*os.File) (*process, error) {
	cmd := exec.Command(d.config.Binary, "demo", "part", name)
	cmd.ExtraFiles = files
	p, err := start(ns, name, cmd, d.hear)
	if err != nil {
		return nil, err
	}
	if err := p.tell(setup); err != nil {
		return nil, err
	}
	if err := p.await(d.context, p.ready, "ready", patience); err != nil {
		return nil, err
	}
	d.guard(p)
	return p, nil
}

// guard fails the run when a process ends before it was told to.
func (d *director) guard(p *process) {
	go func() {
		select {
		case <-p.ended:
			d.fail(p.failure())
		case <-d.context.Done():
		}
	}()
}

// hear takes in what a part says.
func (d *director) hear(m Message) {
	d.ledger.Sent(m.Sent)
	d.ledger.Echoed(m.Echoed)
	d.ledger.Arrived(m.Arrived)
	d.ledger.Unknown(m.Unknown)
	if len(m.Refused) > 0 {
		d.ledger.Refused(m.Refused, m.Cause)
	}
	if m.Event != "" {
		d.step("client: %s", m.Event)
	}
	if m.Error != "" {
		d.fail(errors.New(m.Error))
	}
	if m.Volley != nil {
		d.mu.Lock()
		d.volleys = append(d.volleys, *m.Volley)
		d.mu.Unlock()
	}
}

// startEdge starts the real daemon with XDP in the driver of its link.
func (d *director) startEdge(key handshake.PrivateKey, client handshake.PublicKey) error {
	d.step("starting the edge: xdp-roam run, mode %s on its veth, service udp://%s:%d", d.config.Mode, lab.BackendV4, servicePort)
	keyText, err := key.MarshalText()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"server.key": string(keyText) + "\n", "authorized_keys": client.String() + " roamer\n",
	} {
		if err := os.WriteFile(d.scratch.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := d.net.Edge.OwnMounts(); err != nil {
		return err
	}
	cmd := exec.Command(d.config.Binary, append([]string{"run",
		"--listen", fmt.Sprintf(":%d", wire.DefaultPort), "--interface", lab.EdgeLink, "--mode", d.config.Mode,
		"--key-file", d.scratch.Path("server.key"), "--authorized-keys", d.scratch.Path("authorized_keys"),
		"--state-dir", d.scratch.Path("state"), "--cookie", "always",
		"--service", fmt.Sprintf("%d=udp://%s:%d", roamService, lab.BackendV4, servicePort),
	}, d.edgeFlags()...)...)
	if d.edge, err = start(d.net.Edge, "edge", cmd, nil); err != nil {
		return err
	}
	d.guard(d.edge)
	d.control = control.NewClient(d.controlSocket())
	err = d.until("starting the edge", patience, func() (bool, error) {
		_, err := d.control.Status(d.context)
		if errors.Is(err, control.ErrNotRunning) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	d.report.XDP, err = d.net.Edge.XDP(lab.EdgeLink)
	return err
}

// edgeFlags are the global flags by which commands find this edge.
func (d *director) edgeFlags() []string {
	return []string{"--instance", "demo", "--control", d.controlSocket()}
}

// startAttacker gives the attacker taps on every network of the client and a
// raw socket on its own link: it needs no privileges of its own.
func (d *director) startAttacker(setup Setup) error {
	raw, err := d.net.Attacker.OpenPacket(lab.AttackerLink, lab.EtherNone)
	if err != nil {
		return err
	}
	files := []*os.File{raw}
	defer func() {
		for _, f := range files {
			f.Close() // the attacker has its own by then
		}
	}()
	for _, a := range []*lab.Access{d.net.A, d.net.B, d.net.Six} {
		tap, err := d.net.Core.OpenPacket(a.Tap, lab.EtherAll)
		if err != nil {
			return err
		}
		files = append(files, tap)
	}
	d.attacker, err = d.startPart(d.net.Attacker, PartAttacker, setup, files)
	return err
}

// startClient opens the session through network A.
func (d *director) startClient(setup Setup) error {
	if err := d.net.A.Join(metricA); err != nil {
		return err
	}
	d.step("opening a session through network A (NAT: %s)", d.net.A.Public)
	asked := now()
	var err error
	if d.client, err = d.startPart(d.net.Client, PartClient, setup, nil); err != nil {
		return err
	}
	d.report.Handshake = now().Sub(asked)
	d.watchPaths()
	return nil
}

// watchPaths follows where the edge believes the client to be.
func (d *director) watchPaths() {
	go func() {
		for d.sleep(10*time.Millisecond) == nil {
			sessions, err := d.control.Sessions(d.context, control.SessionQuery{})
			if err != nil {
				continue // the end; a dead edge is noticed elsewhere
			}
			for _, s := range sessions {
				d.mu.Lock()
				if len(d.paths) == 0 || d.paths[len(d.paths)-1] != s.Remote {
					d.paths = append(d.paths, s.Remote)
				}
				d.mu.Unlock()
			}
		}
	}()
}

// close ends the processes in order and notes what the edge leaves.
func (d *director) close() error {
	d.fail(nil) // from here on they may end
	var errs []error
	for _, p := range []*process{d.attacker, d.client} {
		errs = append(errs, p.finish(nil, patience))
	}
	errs = append(errs, d.edge.finish(syscall.SIGTERM, patience), d.service.finish(nil, patience))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	left, err := d.leftovers()
	d.report.Left = left
	return err
}

// leftovers looks for what the edge should have taken away with it.
func (d *director) leftovers() ([]string, error) {
	left := []string{}
	mode, err := d.net.Edge.XDP(lab.EdgeLink)
	if err != nil {
		return nil, err
	}
	if mode != "" {
		left = append(left, "XDP program on "+lab.EdgeLink)
	}
	err = d.net.Edge.Do(func() error {
		pins, err := os.ReadDir("/sys/fs/bpf")
		for _, pin := range pins {
			if pin.IsDir() { // the files there are the kernel's own
				left = append(left, "/sys/fs/bpf/"+pin.Name())
			}
		}
		return err
	})
	return left, err
}

// remove takes away whatever was made, in any state of the run.
func (d *director) remove() error {
	var errs []error
	if d.witness != nil {
		errs = append(errs, d.witness.Close())
	}
	if d.net != nil {
		errs = append(errs, d.net.Close())
	}
	for _, p := range []*process{d.edge, d.service, d.client, d.attacker} {
		if p != nil {
			<-p.ended // killed with its namespace
		}
	}
	if d.scratch != nil {
		errs = append(errs, d.scratch.Close())
	}
	return errors.Join(errs...)
}

// list is the output of `session list` against the edge.
func (d *director) list() (string, error) {
	var out, diagnostics strings.Builder
	cmd := exec.CommandContext(d.context, d.config.Binary, append([]string{"session", "list", "--color", "never"}, d.edgeFlags()...)...)
	cmd.Stdout, cmd.Stderr = io.Writer(&out), &diagnostics
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("session list: %w: %s", err, diagnostics.String())
	}
	return out.String(), nil
}

// pathsSoFar is a copy of what watchPaths saw.
func (d *director) pathsSoFar() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.paths)
}

// controlSocket is in a directory of its own, because the daemon locks it and
// the scratch directory is locked already.
func (d *director) controlSocket() string { return d.scratch.Path("run/edge.sock") }
