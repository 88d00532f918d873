// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// traffic sends datagrams to edge0 and knows what became of each: counted by roam_xdp,
// or received from the stack by a UDP socket while no program was there.
type traffic struct {
	instance       *Instance
	frame          []byte
	packet, socket int
	out            unix.SockaddrLinklayer

	before  uint64 // counted before the first of these datagrams
	sent    atomic.Int64
	passed  atomic.Int64
	first   atomic.Int64 // when the first of those came by the stack, in ns
	last    atomic.Int64
	sending atomic.Bool
	ended   chan struct{}
}

// inFlight is how many datagrams are on their way at a time: far fewer than any queue
// between here and there holds.
const inFlight = 32

func (m *machine) newTraffic(i *Instance) *traffic {
	m.Helper()
	m.addAddr("edge0", "192.0.2.1/24")
	edge, err := netlink.LinkByName("edge0")
	m.must(err)
	far, err := netlink.LinkByName("far0")
	m.must(err)
	tr := &traffic{instance: i, frame: frame(), out: unix.SockaddrLinklayer{Ifindex: far.Attrs().Index, Halen: 6}, ended: make(chan struct{})}
	copy(tr.frame, edge.Attrs().HardwareAddr)
	addIPv4Checksum(tr.frame[14:34]) // the stack looks at it
	tr.packet, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	m.must(err)
	tr.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	m.must(err)
	m.must(unix.Bind(tr.socket, &unix.SockaddrInet4{Port: 7626}))
	m.must(unix.SetsockoptTimeval(tr.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 10_000}))
	var end atomic.Bool
	received := make(chan struct{})
	go func() {
		defer close(received)
		for b := make([]byte, 2048); !end.Load(); {
			if n, _, err := unix.Recvfrom(tr.socket, b, 0); err == nil && n > 0 {
				now := time.Now().UnixNano()
				tr.first.CompareAndSwap(0, now)
				tr.last.Store(now)
				tr.passed.Add(1)
			}
		}
	}()
	m.Cleanup(func() {
		end.Store(true)
		<-received
		unix.Close(tr.socket)
		unix.Close(tr.packet)
	})
	return tr
}

func addIPv4Checksum(header []byte) {
	var sum uint32
	for at := 0; at < len(header); at += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[at:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum+sum>>16))
}

func (tr *traffic) counted() uint64 {
	return tr.instance.Maps.Counters.Read().Packets[maps.StageXDP][maps.ReasonIDForged]
}

func (tr *traffic) filtered() int64 { return int64(tr.counted() - tr.before) }

// missing are the datagrams that were sent and are nowhere yet.
func (tr *traffic) missing() int64 { return tr.sent.Load() - tr.filtered() - tr.passed.Load() }

func (tr *traffic) start() {
	tr.before = tr.counted()
	tr.sent.Store(0)
	tr.passed.Store(0)
	tr.first.Store(0)
	tr.sending.Store(true)
	go func() {
		for tr.sending.Load() {
			if tr.missing() >= inFlight {
				time.Sleep(20 * time.Microsecond)
			} else if unix.Sendto(tr.packet, tr.frame, 0, &tr.out) == nil {
				tr.sent.Add(1)
			}
		}
		tr.ended <- struct{}{}
	}()
}

// stop ends the stream and returns how many of its datagrams are nowhere.
func (tr *traffic) stop() int64 {
	tr.sending.Store(false)
	<-tr.ended
	for end := time.Now().Add(time.Second); tr.missing() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return tr.missing()
}

// A change between the driver's mode and the generic one has a gap, in which the
// stack has every packet and the sockets' program judges it. None is lost, but for
// those that lie in the ring that a driver has for XDP when that goes.
func TestModeChangeUnderTraffic(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Maps.Identify(0, key))
	m.must(i.Listen(netip.MustParseAddrPort("192.0.2.1:7626"), 0))
	tr := m.newTraffic(i)
	var sent, passed, inRing int64
	var longest time.Duration
	for n := range 20 {
		to := []Mode{ModeGeneric, ModeXDP}[n%2]
		tr.start()
		flows := func() {
			t.Helper()
			at := tr.filtered()
			m.eventually("datagrams are filtered", func() bool { return tr.filtered() > at+100 })
		}
		flows()
		m.attach(i, to, "edge0")
		flows()
		lost := tr.stop()
		if to == ModeXDP && lost != 0 || lost > inFlight {
			t.Errorf("change %d, to %s: of %d datagrams %d are lost", n, to, tr.sent.Load(), lost)
		}
		sent, passed, inRing = sent+tr.sent.Load(), passed+tr.passed.Load(), inRing+lost
		if tr.passed.Load() > 0 {
			longest = max(longest, time.Duration(tr.last.Load()-tr.first.Load()))
		}
	}
	t.Logf("20 changes under %d datagrams: %d came by the stack meanwhile, for %v at most; %d were in a ring that went", sent, passed, longest, inRing)
	m.must(i.Close())
	m.wantNothing("edge0")
}
