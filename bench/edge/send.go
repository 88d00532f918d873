// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"fmt"
	"runtime"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
)

// WaitWide waits until the server sends a datagram of size in one packet: it looks for
// the path's MTU by itself, once there is something that does not fit.
func (e *Edge) WaitWide(size int) error {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if e.Session.Info().MTU >= packetLen(size) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the server sends no datagrams of %d bytes in one packet", size)
		}
		if err := e.Session.SendDatagram(make([]byte, size)); err != nil {
			return err
		}
	}
}

// Send sends n datagrams of size, a Burst at a time and each as fast as it can, and
// returns the CPU time for each, ns: of the one thread that seals them, hands them to
// the kernel and does the kernel's work up to the client's socket. What the client
// does, which reads them between the bursts, is not in it. A burst after which the
// server found its path narrower, because a probe was lost in it, does not count.
func (e *Edge) Send(n, size int) (float64, error) {
	datagrams := make([][]byte, Batch)
	for i := range datagrams {
		datagrams[i] = make([]byte, size)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	refusedBefore := e.Server.Stats().SendRefused
	var cpu time.Duration
	for sent, end := 0, time.Now().Add(patience); sent < n; {
		if err := e.WaitWide(size); err != nil {
			return 0, err
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("only %d of %d datagrams of %d bytes were sent in packets of their own", sent, n, size)
		}
		before, start := e.Session.Info().Sent.Packets, harness.ThreadTime()
		for range Burst / Batch {
			if _, err := e.Session.SendDatagrams(datagrams); err != nil {
				return 0, err
			}
		}
		spent := harness.ThreadTime() - start
		if packets := e.Session.Info().Sent.Packets - before; packets < Burst+Burst/10 {
			sent, cpu = sent+Burst, cpu+spent
		}
		time.Sleep(pause)
	}
	// Some are refused when the ring of the veth device is full, which has 256 places,
	// and probes for a wider path than there is.
	if refused := e.Server.Stats().SendRefused - refusedBefore; refused > uint64(n/4) {
		return 0, fmt.Errorf("the kernel refused %d packets", refused)
	}
	return float64(cpu) / float64((n+Burst-1)/Burst*Burst), nil
}

// pause is what the client has to read a burst, and to answer probes.
const pause = 5 * time.Millisecond
