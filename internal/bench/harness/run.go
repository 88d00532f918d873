// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// liveBatch is how many frames a driver takes at a time.
const liveBatch = 64

// TestRun returns ns for each run of a program, by BPF_PROG_TEST_RUN.
func (h *Harness) TestRun(program string, want uint32) (float64, error) {
	if err := h.begin(0); err != nil {
		return 0, err
	}
	_, d, err := h.Programs[program].Benchmark(h.frame, h.Runs, nil)
	if err != nil {
		return 0, fmt.Errorf("%s: test run: %w", program, err)
	}
	_, err = h.expect(program, want)
	return float64(d.Nanoseconds()), err
}

// Uncounted is the verdict to want of a program without a harness.
const Uncounted = 0

// LiveRun returns ns for each frame of a program, its frames injected as if
// received and all dropped in the end.
func (h *Harness) LiveRun(program string, want uint32) (float64, error) {
	for {
		if err := h.begin(Drop); err != nil {
			return 0, err
		}
		start := ThreadTime()
		_, err := h.Programs[program].Run(&ebpf.RunOptions{
			Data: h.frame, Repeat: uint32(h.Runs), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: liveBatch,
		})
		if err != nil {
			return 0, fmt.Errorf("%s: live frames: %w", program, err)
		}
		ns := float64(ThreadTime()-start) / float64(h.Runs)
		if want == Uncounted {
			return ns, nil
		}
		n, err := h.expect(program, want)
		if err != nil || n == uint64(h.Runs) {
			return ns, err
		}
		// A signal had interrupted the run and it was started again: the time is not one run's.
	}
}

// Inject brings frames to a program as if Ingress had received them, and carries
// out what the program says of each. The calling thread, which is in the network
// namespace of Ingress, does all the work up to the sockets: it returns the CPU
// time of that. The verdicts are counted, see Verdicts.
func (h *Harness) Inject(program string, frames int) (time.Duration, error) {
	if err := h.begin(0); err != nil {
		return 0, err
	}
	context := make([]byte, xdpMDLen)
	binary.NativeEndian.PutUint32(context[xdpMDEndAt:], uint32(len(h.frame)))
	binary.NativeEndian.PutUint32(context[xdpMDIngressAt:], uint32(h.Ingress))
	start := ThreadTime()
	_, err := h.Programs[program].Run(&ebpf.RunOptions{
		Data: h.frame, Context: context, Repeat: uint32(frames), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: liveBatch,
	})
	if err != nil {
		return 0, fmt.Errorf("%s: live frames: %w", program, err)
	}
	return ThreadTime() - start, nil
}

// struct xdp_md of linux/bpf.h.
const (
	xdpMDLen       = 24
	xdpMDEndAt     = 4
	xdpMDIngressAt = 12
)

// Verdicts are how often the last measurement's program returned what, by action.
func (h *Harness) Verdicts() ([8]uint64, error) {
	var c harnessHarnessConfig
	err := h.Maps["harness_configs"].Lookup(uint32(0), &c)
	return c.Verdicts, err
}

// ThreadTime is the CPU time of this thread: what else runs on the CPU meanwhile
// does not count.
func ThreadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // the clock is in every kernel
	}
	return time.Duration(ts.Nano())
}

// begin sets what the harness returns, and zeroes what it has counted.
func (h *Harness) begin(verdict uint32) error {
	return h.changeHarness(func(c *harnessHarnessConfig) {
		c.Verdict, c.Verdicts = verdict, [8]uint64{}
	})
}

func (h *Harness) changeHarness(change func(c *harnessHarnessConfig)) error {
	var c harnessHarnessConfig
	if err := h.Maps["harness_configs"].Lookup(uint32(0), &c); err != nil {
		return err
	}
	change(&c)
	return h.Maps["harness_configs"].Put(uint32(0), c)
}

// expect makes sure that the program did what is being measured: every run had
// this verdict. It returns how many there were: more than asked for if a
// signal made the library start again.
func (h *Harness) expect(program string, want uint32) (uint64, error) {
	verdicts, err := h.Verdicts()
	if err != nil {
		return 0, err
	}
	n, all := verdicts[want], uint64(0)
	for _, v := range verdicts {
		all += v
	}
	if n < uint64(h.Runs) || n != all {
		return n, fmt.Errorf("%s: %d runs asked for, %d had verdict %d; all: %v; by reason: %v",
			program, h.Runs, n, want, verdicts, h.reasons())
	}
	return n, nil
}
