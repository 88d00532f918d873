// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestEvents(t *testing.T) {
	privateNamespaces(t)
	s := createSet(t, 64)
	server := netip.MustParseAddrPort("127.0.0.1:7626")
	c := listenReuseport(t, server.String())
	programs, err := s.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer programs.XDP.Close()
	if err := s.Sockets.Attach(rawConn(t, c)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sockets.Register(0, 0, LaneCandidate, rawConn(t, c)); err != nil {
		t.Fatal(err)
	}
	if err := s.Listeners.Add(Listener{Addr: server}); err != nil {
		t.Fatal(err)
	}
	events, err := s.Events()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()

	client := listenReuseport(t, "127.0.0.1:0")
	id, _, err := s.Sessions.Allocate(KindROAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.WriteToUDPAddrPort(data(id), server); err != nil {
		t.Fatal(err)
	}
	events.SetDeadline(time.Now().Add(patience))
	got, err := events.Read()
	if err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	if age := time.Duration(now.Nano()) - got.Since; age < 0 || age > time.Minute {
		t.Errorf("the event is %v old", age)
	}
	got.Since = 0
	want := Event{Stage: StageSocket, Reason: ReasonCandidate, ID: id, Src: client.LocalAddr().(*net.UDPAddr).AddrPort(), Dst: server, Length: 64}
	if got != want {
		t.Errorf("event %+v, want %+v", got, want)
	}
	events.SetDeadline(time.Now().Add(-time.Second))
	if _, err := events.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	events.Close()
	if _, err := events.Read(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestDecodeEventRefusesShortSample(t *testing.T) {
	if _, err := decodeEvent(make([]byte, 71)); err == nil {
		t.Error("71 bytes were taken for an event")
	}
}
