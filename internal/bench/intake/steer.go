// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

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
	var generator float64
	cost := func(w way) func() (float64, error) {
		return func() (float64, error) {
			cpu, err := b.bursts(w)
			return cpu - generator, err
		}
	}
	runs, err := report.Alternate(ctx, steerRounds*o.Pairs,
		func() (_ float64, err error) {
			generator, err = b.emptyBursts()
			return generator, err
		}, cost(bySocket), cost(byHash))
	if err != nil {
		return r, err
	}
	r.Add(report.AtLeast(19, "CPU time per packet: the kernel's hash / `socket` mode", "x", report.Ratios(runs[2], runs[1]), 0.93).
		Against("the kernel's hash", "ns", runs[2], runs[1]))
	return r, nil
}

// A burst is taken in when all of it has come, and fits the socket's memory: a reader
// beside the generator sleeps more often, and loses less, the longer the other takes,
// so that what waking it costs would be measured and not what choosing costs.
const burst = 2048

// steerRounds is how many times as often as others this is measured: what differs is a
// twentieth of the whole.
const steerRounds = 4

// rounds is how many bursts one measurement has.
func (o Options) rounds() int { return max(o.Frames/16/burst, 1) }

// emptyBursts returns ns of CPU for each frame of bursts that go nowhere.
func (b *bench) emptyBursts() (float64, error) {
	var all time.Duration
	var n uint64
	for range b.o.rounds() {
		cpu, frames, err := b.burst(harness.OnlyReturn)
		if err != nil {
			return 0, err
		}
		all, n = all+cpu, n+frames
	}
	return float64(all) / float64(n), nil
}

// burst brings one in. A signal in the middle begins it anew: it returns how many
// frames there were, and the CPU time.
func (b *bench) burst(program string) (cpu time.Duration, frames uint64, err error) {
	if cpu, err = b.wire.Inject(b.h, program, burst); err != nil {
		return 0, 0, err
	}
	verdicts, err := b.h.Verdicts()
	for _, n := range verdicts {
		frames += n
	}
	return cpu, frames, err
}

// bursts returns ns of CPU for each frame from the generator to the worker that has
// looked up its session.
func (b *bench) bursts(w way) (perFrame float64, err error) {
	var in reader
	err = b.wire.Server.Do(func() error {
		in, err = w.open(b, b.wire.Ends(clientPort, serverPort).Dest)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.name, err)
	}
	wk := &worker{table: b.set.Sessions}
	var all time.Duration
	var n uint64
	for range b.o.rounds() {
		var cpu time.Duration
		var frames uint64
		if cpu, frames, err = b.burst(w.program); err != nil {
			break
		}
		all, n = all+cpu, n+frames
		if cpu, err = take(in, wk, n); err != nil {
			break
		}
		all += cpu
	}
	if err = errors.Join(err, in.close()); err == nil && wk.unknown.Load() != 0 {
		err = fmt.Errorf("%d packets had no session", wk.unknown.Load())
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.name, err)
	}
	return float64(all) / float64(n), nil
}

// take reads until wk has seen n packets. It returns the CPU time of that.
func take(in reader, wk *worker, n uint64) (time.Duration, error) {
	late := time.AfterFunc(patience, func() { in.close() })
	defer late.Stop()
	start := harness.ProcessTime()
	for wk.packets.Load() < n {
		if err := in.read(wk); err != nil {
			return 0, fmt.Errorf("after %d of %d packets: %w", wk.packets.Load(), n, err)
		}
	}
	return harness.ProcessTime() - start, nil
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
