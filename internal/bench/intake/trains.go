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
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// trainReader takes trains out of a socket with UDP_GRO.
type trainReader struct {
	conn  netio.Conn
	in    []netio.Message
	parts []netio.Message
	bare  bool // counts datagrams and does not touch them
}

func (t *trainReader) read(w *worker) error {
	n, err := t.conn.ReadBatch(t.in)
	if err != nil {
		return err
	}
	if t.bare {
		all := 0
		for i := range t.in[:n] {
			all++
			if m := &t.in[i]; m.Segment > 0 {
				all += (m.N - 1) / m.Segment
			}
		}
		w.packets.Store(w.packets.Load() + uint64(all))
		return nil
	}
	t.parts = netio.Split(t.parts[:0], t.in[:n])
	for i := range t.parts {
		w.look(t.parts[i].Data())
	}
	w.packets.Store(w.packets.Load() + uint64(len(t.parts)))
	return nil
}

func (t *trainReader) close() error { return t.conn.Close() }

// openTrains opens a socket with UDP_GRO: one of a group for which roam_socket
// chooses, or bare.
func (b *bench) openTrains(addr netip.AddrPort, bare bool) (reader, error) {
	conn, err := netio.ListenUDP(netio.Config{Addr: addr, ReusePort: !bare, ReadBuffer: socketBuffer, GRO: true})
	if err != nil {
		return nil, err
	}
	if !bare {
		if err := b.steer(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &trainReader{conn: conn, in: netio.MakeMessages(batchSize, netio.TrainRoom), bare: bare}, nil
}

// steer has roam_socket choose for the group of conn.
func (b *bench) steer(conn netio.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(b.set.Sockets.Register(0, 0, maps.LaneMain, raw), b.set.Sockets.Attach(raw))
}

// openAttachedXSK opens an AF_XDP socket behind roam_xdp, which is attached to the
// device: from then on no train crosses whole.
func (b *bench) openAttachedXSK(addr netip.AddrPort) (reader, error) {
	program, err := b.set.LoadXDP(0)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	in, err := b.openXSK(addr)
	if err != nil {
		return nil, err
	}
	attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: b.wire.Device, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return &attachedReader{in, attached}, nil
}

// attachedReader takes its program off in the end.
type attachedReader struct {
	reader
	link link.Link
}

func (a *attachedReader) close() error { return errors.Join(a.link.Close(), a.reader.close()) }

// train is one UDP_SEGMENT send of datagrams of a session.
func (b *bench) train(size int) []byte {
	n := min(maxSegments, maxTrain/size)
	train := make([]byte, n*size)
	for i := range n {
		datagram := train[i*size:]
		datagram[0] = wire.TypeData
		id := harness.IDOf(0, uint32(b.o.Sessions-1))
		binary.LittleEndian.PutUint64(datagram[8:], id[0])
		binary.LittleEndian.PutUint64(datagram[16:], id[1])
	}
	return train
}

// What the kernel takes as one train.
const (
	maxSegments = 64 // UDP_MAX_SEGMENTS before Linux 6.9
	maxTrain    = 1<<16 - 1 - 28
)

// flow is what one run of trains brought.
type flow struct {
	rate float64 // datagrams that the worker saw, millions each second
	cpu  float64 // ns of the whole process for each of them, the sender's too
}

// send sends trains, as fast as the kernel takes them, to a worker.
func (b *bench) send(w way, size int) (f flow, err error) {
	ends := b.wire.Ends(clientPort, serverPort)
	wk, stop, err := b.start(w)
	if err != nil {
		return f, err
	}
	cpu, start := harness.ProcessTime(), time.Now()
	err = b.wire.Client.Do(func() error { return sendTrains(ends, b.train(size), size, b.o.Frames, wk.packets.Load) })
	// A short run is over before its reader has begun.
	for end := time.Now().Add(patience); err == nil && wk.packets.Load() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	seen, took := wk.packets.Load(), time.Since(start)
	spent := harness.ProcessTime() - cpu
	err = errors.Join(err, stop())
	if err == nil && (seen == 0 || wk.unknown.Load() != 0) {
		err = fmt.Errorf("of %d datagrams %d came and %d had no session", b.o.Frames, seen, wk.unknown.Load())
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", w.name, err)
	}
	return flow{rate: float64(seen) / took.Seconds() / 1e6, cpu: float64(spent) / float64(seen)}, nil
}

// Of so many trains on their way none is lost for want of room in a socket; what a
// device has lost is given up after a while.
const (
	window = 16
	giveUp = 2 * time.Millisecond
)

// sendTrains sends at least n datagrams from the generator's CPU, no faster than they
// are seen.
func sendTrains(ends harness.Ends, train []byte, size, n int, seen func() uint64) error {
	if runtime.NumCPU() > 1 {
		if err := harness.OwnCPU(network.GeneratorCPU); err != nil {
			return err
		}
	}
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(ends.Source), net.UDPAddrFromAddrPort(ends.Dest))
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if err := errors.Join(err, optErr); err != nil {
		return err
	}
	each := len(train) / size
	for sent, lost := 0, 0; sent < n; sent += each {
		// A full ring of the device refuses the rest of a train that is cut up.
		if _, err := conn.Write(train); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		for last, since := seen(), time.Now(); sent-lost-int(last) > window*each; {
			runtime.Gosched()
			if now := seen(); now != last {
				last, since = now, time.Now()
			} else if time.Since(since) > giveUp {
				lost = sent - int(now)
			}
		}
	}
	return nil
}

// MeasureTrains gives the part of row 19 that is about GSO over veth, and beside it
// what AF_XDP makes of the same trains.
func MeasureTrains(ctx context.Context, o Options) (r report.Results, err error) {
	b, err := newBench(o, network.WithGSO)
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
	ours := way{"`socket` mode", "", func(b *bench, a netip.AddrPort) (reader, error) { return b.openTrains(a, false) }}
	bare := way{"bare UDP_GRO", "", func(b *bench, a netip.AddrPort) (reader, error) { return b.openTrains(a, true) }}
	xsk := way{"AF_XDP behind roam_xdp", "", (*bench).openAttachedXSK}
	for _, size := range []int{1400, 64} {
		var cpus [3][]float64
		measure := func(i int, w way) func() (float64, error) {
			return func() (float64, error) {
				f, err := b.send(w, size)
				cpus[i] = append(cpus[i], f.cpu)
				return f.rate, err
			}
		}
		runs, err := report.Alternate(ctx, o.Pairs, measure(0, ours), measure(1, bare), measure(2, xsk))
		if err != nil {
			return r, err
		}
		const what = "GSO over veth, `socket` mode with session lookup"
		if size == 1400 {
			r.Add(report.AtLeast(19, what+" / bare UDP_GRO server, 1400 B", "x", report.Ratios(runs[0], runs[1]), 0.9).
				Against(bare.name, "Mpps", runs[1], runs[0]))
		} else {
			r.AddAside(report.Beside(19, fmt.Sprintf(what+" / bare UDP_GRO server, %d B", size), "x", report.Ratios(runs[0], runs[1])).
				Against(bare.name, "Mpps", runs[1], runs[0]))
		}
		r.AddAside(
			report.Beside(19, fmt.Sprintf("GSO over veth, CPU time of both ends per datagram: bare / ours, %d B", size), "x", report.Ratios(cpus[1], cpus[0])).
				Against(bare.name, "ns", cpus[1], cpus[0]),
			report.Beside(19, fmt.Sprintf("GSO over veth into AF_XDP (copy mode) / bare UDP_GRO server, %d B", size), "x", report.Ratios(runs[2], runs[1])).
				Against(bare.name, "Mpps", runs[1], runs[2]))
	}
	return r, nil
}
