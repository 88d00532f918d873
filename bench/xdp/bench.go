// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4

	frameIDAt  = 14 + 20 + 8 + 8
	liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES
	liveBatch  = 64
)

// bench is a harness around one program, loaded.
type bench struct {
	*ebpf.Collection
	frame []byte
	xsk   int
	runs  int // of each measurement
}

// load loads the harness around a program, with the given sizes of maps and
// with maps of another bench in the place of its own.
func load(program string, tested *ebpf.CollectionSpec, entries map[string]uint32, shared map[string]*ebpf.Map, runs int) (*bench, error) {
	spec, err := under(program, tested)
	if err != nil {
		return nil, err
	}
	for name, n := range entries {
		spec.Maps[name].MaxEntries = n
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("loading the harness around %s: %w", program, err)
	}
	return &bench{Collection: coll, xsk: -1, runs: runs}, nil
}

// close gives everything back.
func (b *bench) close() {
	if b.xsk >= 0 {
		unix.Close(b.xsk)
	}
	b.Collection.Close()
}

// configurePlane is what the control plane would do: one listener, one AF_XDP
// socket, limits out of the way.
func (b *bench) configurePlane(change func(c *bpf.RoamRoamConfig)) error {
	cfg := bpf.RoamRoamConfig{
		Schema:   1,
		SlotMask: b.Maps["slots"].MaxEntries() - 1,
		Limits: bpf.RoamRoamLimits{
			HandshakeRate: 1 << 24, HandshakeBurst: 1 << 24, EventRate: 100, EventBurst: 100,
		},
	}
	cfg.IdKeys[0] = idKey
	if change != nil {
		change(&cfg)
	}
	addr, port := mapped(serverAddr.Addr()), networkOrder(serverAddr.Port())
	place := uint32((addr[0] ^ addr[1] ^ uint64(port)) * 0x9e3779b97f4a7c15 >> 56)
	err := errors.Join(
		b.Maps["config"].Put(uint32(0), cfg),
		b.Maps["listeners"].Put(place, bpf.RoamRoamListener{Addr: addr, Port: port}))
	if err != nil || b.xsk >= 0 {
		return err
	}
	if b.xsk, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0); err != nil {
		return fmt.Errorf("AF_XDP socket: %w", err)
	}
	return b.Maps["xsks"].Put(uint32(0), uint32(b.xsk))
}

// What a frame is given before each run.
type preparation int

const (
	asItIs  preparation = iota // nothing: the program leaves it alone
	restore                    // its length and first bytes
	oneID                      // the same session's id
	liveIDs                    // the id of another session
	forged                     // such an id with a wrong tag
)

// giveFrame makes the harness run over a frame with a payload.
func (b *bench) giveFrame(payload []byte, p preparation) error {
	b.frame = frameOf(payload)
	cfg := harnessHarnessConfig{Length: uint32(len(b.frame)), Random: 0x9e3779b97f4a7c15}
	cfg.Key.K0, cfg.Key.K1 = idKey.K0, idKey.K1
	var f harnessHarnessFrame
	switch p {
	case restore:
		cfg.Restore = 1
		copy(f.Bytes[:], b.frame)
	case oneID:
		id := idOf(0, b.Maps["slots"].MaxEntries()-1)
		binary.LittleEndian.PutUint64(b.frame[frameIDAt:], id[0])
		binary.LittleEndian.PutUint64(b.frame[frameIDAt+8:], id[1])
	case forged:
		cfg.Forge = 1
		fallthrough
	case liveIDs:
		cfg.IdAt, cfg.IdMask = frameIDAt, b.Maps["slots"].MaxEntries()-1
	}
	return errors.Join(b.Maps["harness_frames"].Put(uint32(0), f), b.Maps["harness_configs"].Put(uint32(0), cfg))
}

// frameOf wraps a payload in plain headers. XDP looks at no checksum.
func frameOf(payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(b, clientAddr.Addr().AsSlice()...)
	b = append(b, serverAddr.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, clientAddr.Port())
	b = binary.BigEndian.AppendUint16(b, serverAddr.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// testRun returns ns for each run of a program, by BPF_PROG_TEST_RUN.
func (b *bench) testRun(program string, want uint32) (float64, error) {
	if err := b.begin(0); err != nil {
		return 0, err
	}
	_, d, err := b.Programs[program].Benchmark(b.frame, b.runs, nil)
	if err != nil {
		return 0, fmt.Errorf("%s: test run: %w", program, err)
	}
	_, err = b.expect(program, want)
	return float64(d.Nanoseconds()), err
}

// liveRun returns ns for each frame of a program, its frames injected as if
// received and all dropped in the end.
func (b *bench) liveRun(program string, want uint32) (float64, error) {
	for {
		if err := b.begin(xdpDrop); err != nil {
			return 0, err
		}
		start, err := threadTime()
		if err != nil {
			return 0, err
		}
		_, err = b.Programs[program].Run(&ebpf.RunOptions{
			Data: b.frame, Repeat: uint32(b.runs), Flags: liveFrames, BatchSize: liveBatch,
		})
		if err != nil {
			return 0, fmt.Errorf("%s: live frames: %w", program, err)
		}
		end, err := threadTime()
		if err != nil {
			return 0, err
		}
		ns := float64(end-start) / float64(b.runs)
		if want == 0 {
			return ns, nil
		}
		n, err := b.expect(program, want)
		if err != nil || n == uint64(b.runs) {
			return ns, err
		}
		// A signal had interrupted the run and it was started again: the time is not one run's.
	}
}

// threadTime is the CPU time of this thread, ns: live frames run on it, and
// what else runs on the CPU meanwhile does not count.
func threadTime() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, err
	}
	return ts.Nano(), nil
}

// begin sets what the harness returns, and zeroes what it has counted.
func (b *bench) begin(verdict uint32) error {
	return b.changeHarness(func(c *harnessHarnessConfig) {
		c.Verdict, c.Verdicts = verdict, [8]uint64{}
	})
}

func (b *bench) changeHarness(change func(c *harnessHarnessConfig)) error {
	var c harnessHarnessConfig
	if err := b.Maps["harness_configs"].Lookup(uint32(0), &c); err != nil {
		return err
	}
	change(&c)
	return b.Maps["harness_configs"].Put(uint32(0), c)
}

// expect makes sure that the program did what is being measured: every run had
// this verdict. It returns how many there were: more than asked for if a
// signal made the library start again.
func (b *bench) expect(program string, want uint32) (uint64, error) {
	var c harnessHarnessConfig
	if err := b.Maps["harness_configs"].Lookup(uint32(0), &c); err != nil {
		return 0, err
	}
	n, all := c.Verdicts[want], uint64(0)
	for _, v := range c.Verdicts {
		all += v
	}
	if n < uint64(b.runs) || n != all {
		return n, fmt.Errorf("%s: %d runs asked for, %d had verdict %d; all: %v; by reason: %v",
			program, b.runs, n, want, c.Verdicts, b.reasons())
	}
	return n, nil
}

// reasons are the data plane's counters that are not zero.
func (b *bench) reasons() map[int]uint64 {
	all := map[int]uint64{}
	for i := range uint32(runtime.NumCPU()) {
		var cpu bpf.RoamRoamCpu
		if err := b.Maps["cpus"].Lookup(i, &cpu); err != nil {
			return nil
		}
		for reason, n := range cpu.Packets[bpf.RoamRoamStageROAM_STAGE_XDP] {
			if n != 0 {
				all[reason] += n
			}
		}
	}
	return all
}
