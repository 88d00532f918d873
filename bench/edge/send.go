// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"errors"
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

// Send sends n datagrams of size, as fast as it can, and returns the CPU time for
// each, ns: of the one thread that seals them, hands them to the kernel and does the
// kernel's work up to the client's socket. What the client does is not in it.
func (e *Edge) Send(n, size int) (float64, error) {
	datagrams := make([][]byte, Batch)
	for i := range datagrams {
		datagrams[i] = make([]byte, size)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := e.Session.Info().Sent.Packets
	cpu, sent := harness.ThreadTime(), 0
	for sent < n {
		m, err := e.Session.SendDatagrams(datagrams)
		sent += m
		if err != nil {
			return 0, err
		}
	}
	cpu = harness.ThreadTime() - cpu
	if packets := e.Session.Info().Sent.Packets - before; packets > uint64(sent+sent/100) {
		return 0, fmt.Errorf("%d datagrams were %d packets: the path became narrower", sent, packets)
	}
	if e.Server.Stats().SendRefused > 0 {
		return 0, errors.New("the kernel refused packets")
	}
	return float64(cpu) / float64(sent), nil
}
