// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// patience is for what happens at once on an idle machine.
const patience = 30 * time.Second

// Ports of the servers at the edge, and of the services that lead there. The
// client forwards local ports of the service's number plus localBase.
const (
	portSSH       = 2222
	portWeb       = 8080
	portDNS       = 5353
	portIperf     = 5201
	portWebSocket = 9000

	localBase = 10000
)

// serverName has both addresses of the edge in the client's hosts file.
const serverName = "edge.example"

// stage is the network, the servers at its edge, xdp-roam between, and what was
// measured there.
type stage struct {
	began       time.Time
	binary      string
	scratch     *lab.Scratch
	net         *lab.Topology
	environment []string
	serverKey   handshake.PublicKey

	mu        sync.Mutex // guards processes
	processes []*process
	connect   *process
	closers   []func() error

	load    string // what else the machine had to do: its load average at the start
	results []result
}

func newStage(ctx context.Context, binary string) (s *stage, err error) {
	s = &stage{began: time.Now(), binary: binary}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		s.load, _, _ = strings.Cut(string(text), " ")
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("setting the stage: %w%s", err, s.words()), s.close())
		}
	}()
	if s.scratch, _, err = lab.NewScratch("", "xdproam-apps"); err != nil {
		return s, err
	}
	s.environment = append(os.Environ(), "XDG_CONFIG_HOME="+s.scratch.Path("config"), "LC_ALL=C.UTF-8", "HOME="+s.scratch.Dir)
	s.say("building the network")
	if s.net, err = lab.NewTopology(); err != nil {
		return s, err
	}
	for _, part := range []func(context.Context) error{s.mount, s.startEdge, s.startSSH, s.startWeb, s.startDNS, s.startWebSocket} {
		if err = part(ctx); err != nil {
			return s, err
		}
	}
	if err = s.net.A.Join(metricA); err != nil {
		return s, err
	}
	return s, s.startConnect(ctx)
}

// close takes everything away.
func (s *stage) close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	s.mu.Lock()
	processes := s.processes
	s.mu.Unlock()
	if s.net != nil {
		errs = append(errs, killAll(s.net.Client, s.net.Edge))
		for _, p := range processes {
			p.kill()
		}
		errs = append(errs, s.net.Close())
	}
	if s.scratch != nil {
		errs = append(errs, s.scratch.Close())
	}
	return errors.Join(errs...)
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// words are xdp-roam's last, for a failure.
func (s *stage) words() (text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		if p.name == s.binary {
			text += fmt.Sprintf("\n%s %s%s", p.name, p.cmd.Args[1], p.words.quote())
		}
	}
	return text
}

// mount gives the edge file systems of its own, and the client a hosts file that
// has both addresses of the edge.
func (s *stage) mount(context.Context) error {
	hosts := s.scratch.Path("hosts")
	text := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%v %s\n%v %s\n", lab.EdgeV4, serverName, lab.EdgeV6, serverName)
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		return err
	}
	if err := errors.Join(s.net.Edge.OwnMounts(), s.net.Client.OwnMounts()); err != nil {
		return err
	}
	// sshd wants this directory, and what is mounted here is seen by the edge alone.
	err := s.net.Edge.Do(func() error {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mounting a tmpfs at /run: %w", err)
		}
		return os.Mkdir("/run/sshd", 0o755)
	})
	if err != nil {
		return err
	}
	return s.net.Client.Do(func() error {
		if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting the client's hosts file: %w", err)
		}
		return nil
	})
}

// write writes a private key as xdp-roam wants it.
func (s *stage) write(name string, key handshake.PrivateKey) error {
	text, err := key.MarshalText()
	if err != nil {
		return err
	}
	return os.WriteFile(s.scratch.Path(name), append(text, '\n'), 0o600)
}

// startEdge starts `run` with XDP in the driver of its link.
func (s *stage) startEdge(ctx context.Context) error {
	server, client := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	s.serverKey = server.Public()
	if err := errors.Join(s.write("server.key", server), s.write("client.key", client),
		os.WriteFile(s.scratch.Path("authorized_keys"), []byte(client.Public().String()+" roamer\n"), 0o600)); err != nil {
		return err
	}
	args := []string{
		"run", "--control", s.scratch.Path("run/edge.sock"), "--listen", fmt.Sprintf(":%d", wire.DefaultPort),
		"--interface", lab.EdgeLink, "--mode", "xdp", "--key-file", s.scratch.Path("server.key"),
		"--authorized-keys", s.scratch.Path("authorized_keys"), "--state-dir", s.scratch.Path("state"),
	}
	for _, port := range []int{portSSH, portWeb, portWebSocket} {
		args = append(args, "--service", fmt.Sprintf("%d=tcp://localhost:%d", port, port))
	}
	// By one address: where localhost has two, a busy machine may try both, and iperf3's
	// server takes the first connection for its client.
	args = append(args, "--service", fmt.Sprintf("%d=tcp://127.0.0.1:%[1]d", portIperf))
	for _, port := range []int{portDNS, portIperf} {
		args = append(args, "--service", fmt.Sprintf("%d=udp://127.0.0.1:%d", udpService(port), port))
	}
	p, err := s.start(s.net.Edge, nil, s.binary, args...)
	if err != nil {
		return err
	}
	return s.ready(ctx, p, "ready: ")
}

// udpService is the service of a UDP server: a service has one backend, and iperf3
// wants TCP and UDP at one port.
func udpService(port int) int { return port + 1 }

// startConnect starts the client's one process for all forwards.
func (s *stage) startConnect(ctx context.Context) (err error) {
	args := []string{"connect", serverName}
	for _, port := range []int{portSSH, portWeb, portIperf, portWebSocket} {
		args = append(args, "-L", fmt.Sprintf("%d:%d", overRoam.port(port), port))
	}
	for _, port := range []int{portDNS, portIperf} {
		args = append(args, "-L", fmt.Sprintf("%d:%d/udp", overRoam.port(port), udpService(port)))
	}
	args = append(args, "--server-key", s.serverKey.String(), "--identity", s.scratch.Path("client.key"))
	if s.connect, err = s.start(s.net.Client, nil, s.binary, args...); err != nil {
		return err
	}
	return s.ready(ctx, s.connect, fmt.Sprintf("forwards to service %d (udp)", udpService(portIperf)))
}

// ready waits until a program has said something.
func (s *stage) ready(ctx context.Context, p *process, words string) error {
	err := until(ctx, fmt.Sprintf("%s says %q", p.name, words), patience, func() bool { return p.words.contains(words) || p.dead() })
	if err == nil && p.dead() {
		err = fmt.Errorf("%s ended: %w", p.name, errors.Join(p.failure(), errors.New("before it was ready")))
	}
	return err
}

// listening waits until a server at the edge listens on a TCP port. It asks the
// kernel: a connection would be a visit, after which some servers end.
func (s *stage) listening(ctx context.Context, p *process, port int) error {
	listener := regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: [0-9A-F]+:%04X [0-9A-F:]+ 0A `, port))
	err := until(ctx, fmt.Sprintf("%s listens on port %d", p.name, port), patience, func() bool {
		return p.dead() || s.net.Edge.Do(func() error {
			for _, name := range []string{"tcp", "tcp6"} {
				table, err := os.ReadFile("/proc/thread-self/net/" + name)
				if err != nil || listener.Match(table) {
					return err
				}
			}
			return errors.New("not yet")
		}) == nil
	})
	if err == nil && p.dead() {
		err = errors.Join(p.failure(), fmt.Errorf("%s is not there%s", p.name, p.words.quote()))
	}
	return err
}

// server starts a server at the edge with a configuration file.
func (s *stage) server(ctx context.Context, port int, configuration string, name string, args ...string) error {
	if configuration != "" {
		text := strings.ReplaceAll(configuration, "SCRATCH", s.scratch.Dir)
		if err := os.WriteFile(s.scratch.Path(fmt.Sprintf("%d.conf", port)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	p, err := s.start(s.net.Edge, nil, name, args...)
	if err != nil {
		return err
	}
	return s.listening(ctx, p, port)
}

// connectAlive fails when the one process that all forwards live in is gone.
func (s *stage) connectAlive() error {
	if s.connect.dead() {
		return errors.Join(s.connect.failure(), syscall.ECHILD)
	}
	return nil
}
