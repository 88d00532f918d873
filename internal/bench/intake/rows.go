// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Options are how much is measured.
type Options struct {
	Pairs    int // alternating runs of each measurement
	Frames   int // injected in each run; below a million what is measured is the start
	Sessions int // in the table, a power of two
	// Progress is told what is measured next; nil: nobody is.
	Progress func(string)
}

const (
	clientPort = 40000
	serverPort = 7626
	payload    = 64 // bytes
)

// bench is the product's data plane under a harness that gives each frame the id of
// another session.
type bench struct {
	o      Options
	wire   *network.Wire
	set    *maps.Set
	shared map[string]*ebpf.Map
	h      *harness.Harness
}

func newBench(o Options, kind network.Kind) (b *bench, err error) {
	b = &bench{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.wire, err = network.New(kind); err != nil {
		return b, err
	}
	if b.set, err = maps.Create(uint32(o.Sessions)); err != nil {
		return b, err
	}
	if err := b.set.Identify(0, idKey); err != nil {
		return b, err
	}
	ends := b.wire.Ends(clientPort, serverPort)
	if err := b.set.Listeners.Add(maps.Listener{Addr: ends.Dest}); err != nil {
		return b, err
	}
	if b.shared, err = harness.PlaneMaps(b.set); err != nil {
		return b, err
	}
	if err := harness.FillSlots(b.shared["slots"], ends.Source); err != nil {
		return b, err
	}
	spec, err := bpf.LoadRoam()
	if err != nil {
		return b, err
	}
	if err := spec.Variables["xsk_enabled"].Set(true); err != nil {
		return b, err
	}
	b.h, err = harness.Load("roam_xdp", spec, harness.Options{
		Entries: map[string]uint32{"slots": uint32(o.Sessions)}, Shared: b.shared,
	})
	if err != nil {
		return b, err
	}
	return b, b.h.GiveFrame(b.dataTo(serverPort), harness.LiveIDs)
}

// dataTo is a frame with a DATA packet to a port of the server; the harness fills the id in.
func (b *bench) dataTo(port uint16) []byte {
	data := make([]byte, payload)
	data[0] = wire.TypeData
	return b.wire.Ends(clientPort, port).AppendFrame(nil, data)
}

// idKey is the harness's for generation 0, and none for the others.
func idKey(generation uint8) (k [16]byte) {
	if generation == 0 {
		binary.LittleEndian.PutUint64(k[:8], harness.IDKey.K0)
		binary.LittleEndian.PutUint64(k[8:], harness.IDKey.K1)
	}
	return k
}

func (b *bench) close() error {
	var errs []error
	if b.h != nil {
		b.h.Close()
	}
	harness.CloseMaps(b.shared)
	if b.set != nil {
		errs = append(errs, b.set.Close())
	}
	if b.wire != nil {
		errs = append(errs, b.wire.Close())
	}
	return errors.Join(errs...)
}

// way is how packets come into the worker.
type way struct {
	name    string
	program string // of the harness
	open    func(*bench, netip.AddrPort) (reader, error)
}

var (
	byXSK = way{"AF_XDP behind roam_xdp", harness.Tested, (*bench).openXSK}
	// What comes to the others has met no XDP program that would cost them anything.
	byPlain = way{"net.UDPConn", harness.OnlyPass, func(_ *bench, a netip.AddrPort) (reader, error) { return openPlain(a) }}
	byMMsg  = way{"recvmmsg", harness.OnlyPass, func(_ *bench, a netip.AddrPort) (reader, error) { return openMMsg(a) }}
)

func (b *bench) openXSK(addr netip.AddrPort) (reader, error) {
	conn, err := netio.ListenXSK(netio.XSKConfig{Interface: b.wire.Device, Port: addr.Port(), MTU: 1500})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := b.set.XSKs.Set(0, 0, raw); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &batched{conn: conn}, nil
}

// patience is for what happens in no time unless something is wrong.
const patience = 30 * time.Second

// figures are those of one run.
type figures struct {
	rate float64 // packets that the worker saw, millions each second
	cpu  float64 // ns for each, kernel and user, without the generator's
}

// start has a worker take packets in until stop, which waits for it.
func (b *bench) start(w way) (wk *worker, stop func() error, err error) {
	var in reader
	err = b.wire.Server.Do(func() error {
		in, err = w.open(b, b.wire.Ends(clientPort, serverPort).Dest)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", w.name, err)
	}
	wk = &worker{table: b.set.Sessions}
	done := make(chan error)
	go func() {
		var err error
		for err == nil {
			err = in.read(wk)
		}
		done <- err
	}()
	return wk, func() error {
		err := in.close()
		if end := <-done; !errors.Is(end, net.ErrClosed) {
			err = errors.Join(err, end)
		}
		return err
	}, nil
}

// run injects frames while a worker takes them in.
func (b *bench) run(w way, g generator) (f figures, err error) {
	wk, stop, err := b.start(w)
	if err != nil {
		return f, err
	}
	cpu, start := harness.ProcessTime(), time.Now()
	injecting, err := b.wire.Inject(b.h, w.program, b.o.Frames)
	// A short run is over before its reader has begun.
	for end := time.Now().Add(patience); err == nil && wk.packets.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	took, cpu, packets := time.Since(start), harness.ProcessTime()-cpu, float64(wk.packets.Load())
	if err := errors.Join(err, stop()); err != nil {
		return f, fmt.Errorf("%s: %w", w.name, err)
	}
	sent, err := b.h.Verdicts()
	if err != nil {
		return f, err
	}
	all := uint64(0)
	for _, n := range sent {
		all += n
	}
	want := harness.Redirect
	if w.program == harness.OnlyPass {
		want = harness.Pass
	}
	if sent[want] != all {
		return f, fmt.Errorf("%s: of %d frames only %d got the verdict %d", w.name, all, sent[want], want)
	}
	if packets == 0 || wk.unknown.Load() != 0 {
		return f, fmt.Errorf("%s: of %d frames %.0f came and %d had no session", w.name, all, packets, wk.unknown.Load())
	}
	return figures{
		rate: packets / max(took-g.asleep, injecting).Seconds() / 1e6,
		cpu:  (float64(cpu) - float64(all)*g.perFrame) / packets,
	}, nil
}

// generator is what the frames cost before anything is done with them.
type generator struct {
	perFrame float64       // ns of CPU
	asleep   time.Duration // while it starts and ends
}

func (b *bench) generator() (g generator, err error) {
	start := time.Now()
	cpu, err := b.wire.Inject(b.h, harness.OnlyReturn, b.o.Frames)
	g.asleep = max(time.Since(start)-cpu, 0)
	g.perFrame = float64(cpu) / float64(b.o.Frames)
	return g, err
}

// Measure gives rows 7 and 8.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	b, err := newBench(o, network.LikeWire)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // its signals interrupt the generator
	ways := []way{byXSK, byPlain, byMMsg}
	rates, cpus := make([][]float64, len(ways)), make([][]float64, len(ways))
	for pair := range o.Pairs {
		if o.Progress != nil {
			o.Progress(fmt.Sprintf("packets into a worker, run %d of %d", pair+1, o.Pairs))
		}
		g, err := b.generator()
		if err != nil {
			return r, err
		}
		for i, w := range ways {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			f, err := b.run(w, g)
			if err != nil {
				return r, err
			}
			rates[i], cpus[i] = append(rates[i], f.rate), append(cpus[i], f.cpu)
		}
	}
	for i, goal := range []float64{1: 4, 2: 3.2} {
		if i > 0 {
			r.Add(report.AtLeast(7, "64-byte packets per second into a worker / "+ways[i].name, "x", report.Ratios(rates[0], rates[i]), goal).
				Against(ways[i].name, "Mpps", rates[i], rates[0]))
		}
	}
	for i, goal := range []float64{1: 7, 2: 5} {
		if i > 0 {
			r.Add(report.AtLeast(8, "CPU time per 64-byte packet: "+ways[i].name+" / ours", "x", report.Ratios(cpus[i], cpus[0]), goal).
				Against(ways[i].name, "ns", cpus[i], cpus[0]))
		}
	}
	return r, nil
}
