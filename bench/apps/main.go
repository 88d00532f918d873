// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command apps tries real programs through xdp-roam while their host moves from
// network to network: OpenSSH, nginx and curl, dnsmasq and dig, iperf3, a WebSocket;
// beside plain TCP, mosh and WireGuard where these apply. It fails when a program
// notices more than a pause, and writes what it has measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// limit is when the whole run has failed. It takes six minutes on an idle machine;
// a program that stands still on a busy one is told by a deadline of its own.
const limit = 30 * time.Minute

// trials are what is tried, in this order.
var trials = []struct {
	name, what string
	try        func(context.Context, *stage) error
}{
	{"everyday", "an interactive ssh, requests over one connection, DNS, a WebSocket and a slow download, at once", tryEveryday},
	{"scp", "scp of 100 MB", tryCopy},
	{"curl", "downloads with curl from nginx", tryDownloads},
	{"iperf3", "iperf3, TCP and UDP, each way", tryIperf},
	{"peers", "beside mosh and WireGuard, between IPv4 networks", tryPeers},
	{"rest", "throughput at rest beside plain TCP and WireGuard", tryRest},
	{"plain", "plain TCP at a move", tryPlain},
}

// needed are the programs and the Debian packages that have them.
var needed = [][2]string{
	{"/usr/sbin/sshd", "openssh-server"}, {"ssh", "openssh-client"}, {"scp", "openssh-client"}, {"ssh-keygen", "openssh-client"},
	{"nginx", "nginx"}, {"curl", "curl"}, {"dnsmasq", "dnsmasq-base"}, {"dig", "bind9-dnsutils"}, {"iperf3", "iperf3"},
	{"mosh-server", "mosh"}, {"mosh-client", "mosh"},
}

func main() {
	binary := flag.String("xdp-roam", "bin/xdp-roam", "the xdp-roam `program` that is tried")
	document := flag.String("report", "", "`file` that the report is written to, beside stdout")
	only := flag.String("only", "", "`names` of the trials to make, with commas: see the source")
	tunnel := flag.Bool("wireguard", false, "be one end of a WireGuard tunnel: what this program starts itself as")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *tunnel {
		err = runWireGuard(os.Stdin, os.Stdout)
	} else {
		err = run(ctx, *binary, *document, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apps:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, document, only string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it loads BPF programs and makes network namespaces; run it with sudo")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if err := checkPrograms(binary); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	s, err := newStage(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, t := range trials {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.name) {
			continue
		}
		s.say("%s: %s", t.name, t.what)
		if err := t.try(ctx, s); err != nil {
			return fmt.Errorf("%s: %w%s", t.name, err, s.words())
		}
	}
	if late := s.late(); len(late) > 0 {
		return fmt.Errorf("longer pauses than %v:\n%s", worstPause, strings.Join(late, "\n"))
	}
	text := s.report()
	fmt.Print(text)
	if document != "" {
		return os.WriteFile(document, []byte(text), 0o644)
	}
	return nil
}

// checkPrograms says all that is missing at once.
func checkPrograms(binary string) error {
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%w: make build compiles it", err)
	}
	var packages []string
	for _, n := range needed {
		if _, err := exec.LookPath(n[0]); err != nil && !slices.Contains(packages, n[1]) {
			packages = append(packages, n[1])
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("programs are missing: apt-get install --no-install-recommends %s", strings.Join(packages, " "))
	}
	return nil
}
