// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// frame is an Ethernet frame with a DATA packet of an id nobody issued, from
// 192.0.2.9:4000 to 192.0.2.1:7626.
func frame() []byte {
	const udp, payload = 8, 64
	b := make([]byte, 14+20+udp+payload)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], 20+udp+payload)
	copy(ip[12:], []byte{192, 0, 2, 9, 192, 0, 2, 1})
	u := ip[20:]
	binary.BigEndian.PutUint16(u[0:], 4000)
	binary.BigEndian.PutUint16(u[2:], 7626)
	binary.BigEndian.PutUint16(u[4:], udp+payload)
	u[8] = 0x0c
	copy(u[16:], "an id of no one!")
	return b
}

// No packet escapes the program while it is exchanged, and all are counted in
// the same maps.
func TestReplaceUnderTraffic(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Maps.Identify(0, key))
	m.must(i.Listen(netip.MustParseAddrPort("192.0.2.1:7626"), 0))
	far, err := ReadInterface("far0")
	m.must(err)

	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	m.must(err)
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: far.Index, Protocol: 0x0008}
	dropped := func() uint64 {
		s := i.Maps.Counters.Read()
		return s.Packets[maps.StageXDP][maps.ReasonIDForged]
	}
	m.must(unix.Sendto(fd, frame(), 0, to))
	m.eventually("the first packet is counted", func() bool { return dropped() == 1 })

	stop, sent := make(chan struct{}), make(chan uint64)
	go func() {
		n := uint64(1)
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			// The ring of a veth holds 256: never send far ahead of the program.
			for n-dropped() > 64 {
				runtime.Gosched()
				select {
				case <-stop:
					return
				default:
				}
			}
			if unix.Sendto(fd, frame(), 0, to) == nil {
				n++
			}
		}
	}()
	// Another load is another program, to be exchanged over the same maps.
	other, err := i.Maps.LoadPrograms(ebpf.ProgramOptions{})
	m.must(err)
	defer other.XDP.Close()
	const exchanges = 50
	for range exchanges {
		i.program, other.XDP = other.XDP, i.program
		m.attach(i, ModeXDP, "edge0")
	}
	close(stop)
	n := <-sent
	m.eventually("every packet is counted", func() bool { return dropped() == n })
	time.Sleep(20 * time.Millisecond)
	if got := dropped(); got != n || n < exchanges {
		t.Errorf("sent %d, the programs dropped %d", n, got)
	}
	m.must(i.Close())
	m.wantNothing("edge0")
}
