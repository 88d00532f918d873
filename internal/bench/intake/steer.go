// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// MeasureSteering gives the part of row 19 that is about choosing a socket.
func MeasureSteering(ctx context.Context, o Options) (r report.Results, err error) {
	b, err := newBench(o, network.LikeWire)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // its signals interrupt the generator
	nobody := b.nobody()
	steered, err := b.openGroup("roam_socket", serverPort)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, steered.close()) }()
	hashed, err := b.openGroup("the kernel's hash", serverPort+1)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, hashed.close()) }()
	if err := b.set.Sockets.Register(0, 0, maps.LaneMain, steered.raw); err != nil {
		return r, err
	}
	var ours, theirs []float64
	for i := range steerRounds * o.Pairs {
		if i%steerRounds == 0 {
			if err := b.load(steered); err != nil {
				return r, err
			}
		}
		if err := b.round(ctx, nobody, steered, hashed); err != nil {
			return r, err
		}
		generator := nobody.perFrame()
		ours, theirs = append(ours, steered.perFrame()-generator), append(theirs, hashed.perFrame()-generator)
	}
	r.Add(report.AtLeast(19, "CPU time per packet: the kernel's hash / `socket` mode", "x", report.Ratios(theirs, ours), 0.93).
		Against("the kernel's hash", "ns", theirs, ours))
	return r, nil
}

// A burst is taken in when all of it has come, and fits the socket's memory: a reader
// beside the generator sleeps more often, and loses less, the longer the other takes,
// so that what waking it costs would be measured and not what choosing costs.
const burst = 2048

// steerRounds is how many times as often as others this is measured, with as many loads
// of the program as others have pairs: what differs is a twentieth of the whole, and
// where the kernel puts a program changes what it costs.
const steerRounds = 4

// group is where bursts go: a reuseport group of one socket, since what choosing costs
// is the same for more; or nowhere.
type group struct {
	name    string
	program string // of the harness
	frame   []byte
	in      *batched // nil: nowhere
	raw     syscall.RawConn
	wk      *worker

	// Since the round began:
	cpu    time.Duration
	frames uint64
}

// nobody is where frames go that only cost what generating them costs.
func (b *bench) nobody() *group {
	return &group{name: "the generator", program: harness.OnlyReturn, frame: b.dataTo(serverPort)}
}

// openGroup opens the group of a port, in which the kernel's hash chooses.
func (b *bench) openGroup(name string, port uint16) (g *group, err error) {
	var conn netio.Conn
	err = b.wire.Server.Do(func() error {
		conn, err = netio.ListenUDP(netio.Config{Addr: b.wire.Ends(clientPort, port).Dest, ReusePort: true, ReadBuffer: socketBuffer})
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	in := &batched{conn: conn}
	for i := range in.in {
		in.in[i].Buf = make([]byte, wire.MaxPacket)
	}
	return &group{
		name: name, program: harness.OnlyPass, frame: b.dataTo(port), in: in, raw: raw, wk: &worker{table: b.set.Sessions},
	}, nil
}

// load has a newly loaded roam_socket choose for the group.
func (b *bench) load(g *group) error {
	programs, err := b.set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return err
	}
	return errors.Join(programs.XDP.Close(), b.set.Sockets.Attach(g.raw))
}

func (g *group) close() error { return g.in.close() }

// perFrame is ns of CPU in this round, from the generator to the worker that has looked
// up the session.
func (g *group) perFrame() float64 { return float64(g.cpu) / float64(g.frames) }

// round brings in bursts, each to another group than the one before it: what changes on
// the machine within milliseconds meets all alike. Who comes after whom changes too.
func (b *bench) round(ctx context.Context, groups ...*group) error {
	for _, g := range groups {
		g.cpu, g.frames = 0, 0
	}
	for range max(b.o.Frames/16/burst, 1) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, g := range groups {
			if err := b.burst(g); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
		slices.Reverse(groups)
	}
	return nil
}

// burst brings one in. A signal in the middle begins it anew: there are more frames then.
func (b *bench) burst(g *group) error {
	if err := b.h.GiveFrame(g.frame, harness.LiveIDs); err != nil {
		return err
	}
	cpu, err := b.wire.Inject(b.h, g.program, burst)
	if err != nil {
		return err
	}
	verdicts, err := b.h.Verdicts()
	if err != nil {
		return err
	}
	g.cpu += cpu
	frames := uint64(0)
	for _, n := range verdicts {
		frames += n
	}
	g.frames += frames
	if g.in == nil {
		return nil
	}
	cpu, err = take(g.in, g.wk, g.wk.packets.Load()+frames)
	g.cpu += cpu
	if unknown := g.wk.unknown.Load(); err == nil && unknown != 0 {
		err = fmt.Errorf("%d packets had no session", unknown)
	}
	return err
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
