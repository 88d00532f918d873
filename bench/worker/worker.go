// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package worker measures what a datagram costs a worker beside its decryption: rows
// 10 and 17 of the goals in docs/BENCHMARKS.md. A real server plays recorded packets
// out of memory to its worker, so no kernel and no network card is in the figures.
package worker

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/xdp-roam/xdp-roam/bench/edge"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Options are how much is measured.
type Options struct {
	Pairs     int // alternating runs of each measurement
	Datagrams int // in each run
	// Progress is told what is measured next; nil: nobody is.
	Progress func(string)
}

// goals of row 10, by size of the datagrams.
var goals = []struct {
	size int
	goal float64
}{{1400, 1.15}, {64, 1.6}}

// many is a number of sessions whose packets come mixed: no two of a batch are of one.
const many = 64

// Measure gives rows 10 and 17.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the recordings are most of the heap
	for _, g := range goals {
		for _, sessions := range []int{1, many} {
			if o.Progress != nil {
				o.Progress(fmt.Sprintf("a worker, %d sessions, %d bytes", sessions, g.size))
			}
			ours, bare, err := opened(ctx, o, sessions, g.size)
			if err != nil {
				return r, err
			}
			if sessions == 1 {
				r.Add(report.AtMost(10, fmt.Sprintf("CPU time of a worker per %d-byte datagram / AES-256-GCM Open alone", g.size), "x",
					report.Ratios(ours, bare), g.goal).Against("AES-256-GCM Open", "ns", bare, ours))
			} else {
				r.AddAside(report.Beside(10, fmt.Sprintf("the same, consecutive packets of %d different sessions, %d B", sessions, g.size), "x",
					report.Ratios(ours, bare)).Against("AES-256-GCM Open", "ns", bare, ours))
			}
			runtime.GC()
		}
	}
	allocations, err := allocate(ctx, o)
	if err != nil {
		return r, err
	}
	r.Add(report.AtMost(17, "allocations per datagram, both directions, 64 and 1400 B", "", allocations, 0))
	return r, nil
}

// opened returns the ns that a worker and a bare AEAD took for each datagram.
func opened(ctx context.Context, o Options, sessions, size int) (ours, bare []float64, err error) {
	l, err := edge.NewLoopback(ctx, sessions, size)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	application := read(l)
	worker := func() (float64, error) {
		application.count = 0
		played, busy, err := l.Play(o.Datagrams, size)
		if err != nil {
			return 0, err
		}
		if application.count < played {
			return 0, fmt.Errorf("of %d datagrams %d reached the application", played, application.count)
		}
		return float64(busy) / float64(played), nil
	}
	alone, err := newAlone(size)
	if err != nil {
		return nil, nil, err
	}
	if _, err := worker(); err != nil { // so that all buffers are there
		return nil, nil, err
	}
	runs, err := report.Alternate(ctx, o.Pairs, worker, func() (float64, error) { return alone.open(o.Datagrams) })
	if err != nil {
		return nil, nil, err
	}
	return runs[0], runs[1], nil
}

// application reads what its sessions get, between the worker's batches.
type application struct{ count int }

func read(l *edge.Loopback) *application {
	a := &application{}
	var loan inbox.Loan
	l.Player.Between = func() { a.count += edge.Drain(l.Sessions, &loan) }
	return a
}

// alone opens packets of the same size and does nothing else with them.
type alone struct {
	aead  cipher.AEAD
	batch [many][wire.MaxPacket]byte
	whole []byte // a sealed packet
	nonce [12]byte
}

func newAlone(size int) (*alone, error) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	a := &alone{}
	if a.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	header := make([]byte, wire.HeaderLen)
	a.whole = a.aead.Seal(header, a.nonce[:], make([]byte, size+1), header) // the frame's type is a byte
	return a, nil
}

// open gets its packets as the worker does: 64 at a time, fresh in the cache.
func (a *alone) open(n int) (float64, error) {
	var busy time.Duration
	for range n / many {
		for i := range a.batch {
			copy(a.batch[i][:], a.whole)
		}
		start := time.Now()
		for i := range a.batch {
			p := a.batch[i][:len(a.whole)]
			body := p[wire.HeaderLen:]
			if _, err := a.aead.Open(body[:0], a.nonce[:], body, p[:wire.HeaderLen]); err != nil {
				return 0, err
			}
		}
		busy += time.Since(start)
	}
	return float64(busy) / float64(n/many*many), nil
}

// allocate returns the whole allocations for each datagram, as testing.AllocsPerRun
// counts: what timers and the like allocate meanwhile is less than one for each. The
// clients' are in it too.
func allocate(ctx context.Context, o Options) (each []float64, err error) {
	for _, size := range []int{64, 1400} {
		l, err := edge.NewLoopback(ctx, 1, size)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		read(l)
		datagrams := make([][]byte, many)
		for i := range datagrams {
			datagrams[i] = make([]byte, size)
		}
		for run := range o.Pairs + 1 {
			before := mallocs()
			played, _, err := l.Play(o.Datagrams, size)
			if err != nil {
				return nil, err
			}
			for range played / many {
				if _, err := l.Sessions[0].SendDatagrams(datagrams); err != nil {
					return nil, err
				}
			}
			if run > 0 { // the first one makes the buffers
				each = append(each, float64((mallocs()-before)/uint64(2*played)))
			}
		}
	}
	return each, nil
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
