// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package network joins a server's and a client's network namespace by a wire, for
// measurements that the kernel's own stack has a part in.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// Addresses of the two, of the range for benchmarks (RFC 2544).
var (
	ServerAddr = netip.MustParseAddr("198.18.0.1")
	ClientAddr = netip.MustParseAddr("198.18.0.2")
)

var (
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// device is the name of both ends of the wire.
const device = "wire0"

// Wire is two namespaces with a veth pair between them.
type Wire struct {
	Server, Client *lab.Namespace
	// Device is the index of the server's end.
	Device int

	restore func() error // the CPUs of this process's threads
}

// GeneratorCPU is where packets come from; the threads that are measured have the
// others, since it is before them here. With a single CPU all share it.
const GeneratorCPU = 0

// Kind says what the wire is to be like.
type Kind int

const (
	// LikeWire: both ends have an XDP program, so each packet crosses by itself, as
	// on a network card's wire.
	LikeWire Kind = iota
	// WithGSO: superpackets cross whole (UDP_SEGMENT into UDP_GRO), which no wire does
	// but virtual machines and containers of one host have.
	WithGSO
)

// New makes the namespaces. The caller closes the Wire.
func New(kind Kind) (w *Wire, err error) {
	w = &Wire{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making a wire between two namespaces: %w", err), w.Close())
		}
	}()
	// A reader that has to wait for the generator's CPU would lose what comes meanwhile.
	if w.restore, err = harness.KeepOff(GeneratorCPU); err != nil {
		return w, err
	}
	if w.Server, err = lab.NewNamespace("bench-server"); err != nil {
		return w, err
	}
	if w.Client, err = lab.NewNamespace("bench-client"); err != nil {
		return w, err
	}
	err = lab.Connect(
		lab.Port{NS: w.Server, Link: device, MAC: serverMAC, Addrs: []netip.Prefix{netip.PrefixFrom(ServerAddr, 24)}},
		lab.Port{NS: w.Client, Link: device, MAC: clientMAC, Addrs: []netip.Prefix{netip.PrefixFrom(ClientAddr, 24)}})
	if err != nil {
		return w, err
	}
	if kind == LikeWire {
		if err := errors.Join(w.Server.ReceiveXDP(device), w.Client.ReceiveXDP(device)); err != nil {
			return w, err
		}
	}
	if kind == WithGSO {
		if err := errors.Join(w.Server.OffloadChecksums(device), w.Client.OffloadChecksums(device)); err != nil {
			return w, err
		}
	}
	w.Device, err = w.Server.Index(device)
	return w, err
}

// Inject brings frames to a program of the harness as if the server's end of the
// wire had received them, on the generator's CPU. It returns the CPU time of that:
// all that the kernel does up to the sockets.
func (w *Wire) Inject(h *harness.Harness, program string, frames int) (cpu time.Duration, err error) {
	h.Ingress = w.Device
	err = w.Server.Do(func() error {
		if err := harness.OwnCPU(GeneratorCPU); err != nil {
			return err
		}
		cpu, err = h.Inject(program, frames)
		return err
	})
	return cpu, err
}

// Ends are those of frames from a port of the client to one of the server.
func (w *Wire) Ends(from, to uint16) harness.Ends {
	return harness.Ends{
		SourceMAC: clientMAC, MAC: serverMAC,
		Source: netip.AddrPortFrom(ClientAddr, from), Dest: netip.AddrPortFrom(ServerAddr, to),
	}
}

// Close removes the namespaces and all in them.
func (w *Wire) Close() error {
	var errs []error
	for _, n := range []*lab.Namespace{w.Server, w.Client} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	if w.restore != nil {
		errs = append(errs, w.restore())
	}
	return errors.Join(errs...)
}
