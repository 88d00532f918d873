// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package path measures the whole path of a datagram for each core, kernel included:
// rows 9, 11 and 12 of the goals in docs/BENCHMARKS.md. Received packets are frames
// that come in as if from a network card, so that only the receiver's CPU is counted.
package path

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime/debug"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/bench/edge"
	"github.com/xdp-roam/xdp-roam/bench/peer"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
)

// Options are how much is measured.
type Options struct {
	Pairs     int // alternating runs of each measurement
	Datagrams int // in each run
	// QUIC makes the command that runs peer.SendQUIC for datagrams of a size.
	QUIC func(size int) *exec.Cmd
	// Progress is told what is measured next; nil: nobody is.
	Progress func(string)
}

const (
	large = 1400
	small = 64
)

// Measure gives rows 9, 11 and 12.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // its signals interrupt the generator
	for _, row := range []struct {
		what string
		f    func(context.Context, Options, *report.Results) error
	}{
		{"receiving 1400 bytes", receive},
		{"requests and answers of 64 bytes", echo},
		{"sending 1400 bytes", send},
	} {
		if o.Progress != nil {
			o.Progress(row.what)
		}
		if err := row.f(ctx, o, &r); err != nil {
			return r, err
		}
	}
	r.Sort()
	return r, nil
}

// onWire runs f with an edge on a wire of its own.
func onWire(ctx context.Context, kind network.Kind, size int, f func(*edge.Edge) error) (err error) {
	w, err := network.New(kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	e, err := edge.New(ctx, w, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return f(e)
}

// receive gives row 9.
func receive(ctx context.Context, o Options, r *report.Results) error {
	return onWire(ctx, network.LikeWire, large, func(e *edge.Edge) (err error) {
		wg, err := peer.NewWireGuard(e.Wire, large)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, wg.Close()) }()
		var received atomic.Uint64
		go func() {
			var loan inbox.Loan
			for {
				datagrams, err := e.Session.ReceiveDatagrams(context.Background(), &loan)
				if err != nil {
					return
				}
				received.Add(uint64(len(datagrams)))
			}
		}()
		ours := func() (float64, error) {
			c, err := e.Play(o.Datagrams, large, received.Load)
			return c.CPU, err
		}
		ends := e.Wire.Ends(peer.ClientPort, peer.ServerPort)
		wireguard := func() (float64, error) {
			c, err := e.Injector.Play(harness.OnlyPass, o.Datagrams, wg.Server.Received, func() error {
				return wg.Client.Record(edge.Burst, large, func(p []byte) error { return e.Recording.Append(ends, p) })
			})
			return c.CPU, named("wireguard-go", err)
		}
		// Its client floods its wire, where the others' sessions would lose packets.
		flooded, err := network.New(network.LikeWire)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, flooded.Close()) }()
		quic := func() (float64, error) { return receiveQUIC(ctx, o, e, flooded) }
		runs, err := report.Alternate(ctx, o.Pairs, ours, wireguard, quic)
		if err != nil {
			return err
		}
		r.Add(report.AtLeast(9, "CPU time to receive and decrypt 1400 B: wireguard-go / ours", "x", report.Ratios(runs[1], runs[0]), 3).
			Against("wireguard-go", "ns", runs[1], runs[0]))
		r.Add(report.AtLeast(9, "CPU time to receive and decrypt 1400 B: quic-go datagrams / ours", "x", report.Ratios(runs[2], runs[0]), 8).
			Against("quic-go", "ns", runs[2], runs[0]))
		return nil
	})
}

// named says whose error it is.
func named(who string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	return nil
}

// receiveQUIC returns the CPU time of the server for each datagram, ns. Its client has
// to be there and gets its acknowledgements. Over a veth pair the sender does what the
// receiver's kernel does with a network card, so that is exchanged: the server is
// charged for bringing its packets up to its socket, as the other servers are, and not
// for bringing its acknowledgements up to the client's.
func receiveQUIC(ctx context.Context, o Options, e *edge.Edge, w *network.Wire) (ns float64, err error) {
	in, err := e.Stack(large)
	if err != nil {
		return 0, err
	}
	out, err := e.Stack(acknowledgement)
	if err != nil {
		return 0, err
	}
	q, err := peer.NewQUIC(ctx, w, o.QUIC(large))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if err := q.Wait(ctx, o.Datagrams/10); err != nil { // until it has found its pace
		return 0, err
	}
	before, sentBefore, cpu := q.Received(), q.Sent(), harness.ProcessTime()
	if err := q.Wait(ctx, o.Datagrams); err != nil {
		return 0, err
	}
	spent := float64(harness.ProcessTime() - cpu)
	received, sent := float64(q.Received()-before), float64(q.Sent()-sentBefore)
	return spent/received + in - out*sent/received, nil
}

// acknowledgement is the usual length of one of QUIC, bytes.
const acknowledgement = 30

// echo gives row 12.
func echo(ctx context.Context, o Options, r *report.Results) error {
	return onWire(ctx, network.LikeWire, small, func(e *edge.Edge) (err error) {
		plain, err := peer.NewEcho(e.Wire)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, plain.Close()) }()
		e.Client.Deafen(true)
		var echoed atomic.Uint64
		go func() {
			var loan inbox.Loan
			for {
				datagrams, err := e.Session.ReceiveDatagrams(context.Background(), &loan)
				if err != nil {
					return
				}
				m, err := e.Session.SendDatagrams(datagrams)
				if err != nil {
					return
				}
				echoed.Add(uint64(m))
			}
		}()
		ends, question := e.Wire.Ends(peer.EchoClientPort, peer.EchoPort), make([]byte, small)
		runs, err := report.Alternate(ctx, o.Pairs,
			func() (float64, error) {
				c, err := e.Play(o.Datagrams, small, echoed.Load)
				return c.CPU, err
			},
			func() (float64, error) {
				c, err := e.Injector.Play(harness.OnlyPass, o.Datagrams, plain.Echoed, func() error {
					for range edge.Burst {
						if err := e.Recording.Append(ends, question); err != nil {
							return err
						}
					}
					return nil
				})
				return c.CPU, named("net.UDPConn", err)
			})
		if err != nil {
			return err
		}
		r.Add(report.AtLeast(12, "CPU time for a 64-byte request and its answer: plain Go UDP echo / ours", "x", report.Ratios(runs[1], runs[0]), 2.5).
			Against("net.UDPConn", "ns", runs[1], runs[0]))
		return nil
	})
}

// send gives row 11, on both kinds of wire.
func send(ctx context.Context, o Options, r *report.Results) error {
	gso, theirs, err := sendOver(ctx, o, network.WithGSO)
	if err != nil {
		return err
	}
	r.Add(report.AtLeast(11, "CPU time to encrypt and send 1400 B, GSO packets unsegmented: wireguard-go / ours", "x", report.Ratios(theirs, gso), 2).
		Against("wireguard-go", "ns", theirs, gso))
	wire, theirs, err := sendOver(ctx, o, network.LikeWire)
	if err != nil {
		return err
	}
	r.AddAside(report.Beside(11, "the same, the kernel segments GSO packets before the device", "x", report.Ratios(theirs, wire)).
		Against("wireguard-go", "ns", theirs, wire))
	return nil
}

func sendOver(ctx context.Context, o Options, kind network.Kind) (ours, theirs []float64, err error) {
	err = onWire(ctx, kind, large, func(e *edge.Edge) (err error) {
		wg, err := peer.NewWireGuard(e.Wire, large)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, wg.Close()) }()
		if err := e.WaitWide(large); err != nil {
			return err
		}
		wg.Client.Deafen()
		runs, err := report.Alternate(ctx, o.Pairs,
			func() (float64, error) { return e.Send(o.Datagrams, large) },
			func() (float64, error) { return wg.Server.TimeSend(o.Datagrams) })
		if err == nil {
			ours, theirs = runs[0], runs[1]
		}
		return err
	})
	return ours, theirs, err
}
