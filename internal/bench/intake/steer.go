// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"context"
	"errors"
	"net/netip"
	"runtime/debug"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A reuseport group, of which one socket gets the packets: roam_socket chooses it by
// the id, or the kernel by its hash.
var (
	bySocket = way{"roam_socket", harness.OnlyPass, func(b *bench, a netip.AddrPort) (reader, error) { return b.openGroup(a, true) }}
	byHash   = way{"the kernel's hash", harness.OnlyPass, func(b *bench, a netip.AddrPort) (reader, error) { return b.openGroup(a, false) }}
)

// MeasureSteering gives the part of row 19 that is about choosing a socket.
func MeasureSteering(ctx context.Context, o Options) (r report.Results, err error) {
	b, err := newBench(o, network.LikeWire)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	programs, err := b.set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return r, err
	}
	defer programs.XDP.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // its signals interrupt the generator
	var g generator
	cost := func(w way) func() (float64, error) {
		return func() (float64, error) {
			f, err := b.run(w, g)
			return f.cpu, err
		}
	}
	runs, err := report.Alternate(ctx, o.Pairs,
		func() (_ float64, err error) {
			g, err = b.generator()
			return g.perFrame, err
		}, cost(bySocket), cost(byHash))
	if err != nil {
		return r, err
	}
	r.Add(report.AtLeast(19, "`socket` mode for each core / the kernel's hash", "x", report.Ratios(runs[2], runs[1]), 0.93).
		Against("the kernel's hash", "ns", runs[2], runs[1]))
	return r, nil
}

// openGroup opens a group of one socket: what choosing costs is the same for more.
func (b *bench) openGroup(addr netip.AddrPort, steered bool) (reader, error) {
	conn, err := netio.ListenUDP(netio.Config{Addr: addr, ReusePort: true, ReadBuffer: socketBuffer})
	if err != nil {
		return nil, err
	}
	if steered {
		if err := b.steer(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	r := &batched{conn: conn}
	for i := range r.in {
		r.in[i].Buf = make([]byte, wire.MaxPacket)
	}
	return r, nil
}

// steer has roam_socket choose for the group of conn.
func (b *bench) steer(conn netio.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(b.set.Sockets.Register(0, 0, maps.LaneMain, raw), b.set.Sockets.Attach(raw))
}
