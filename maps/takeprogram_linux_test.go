// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Another program takes the place of ours at the sockets: from then on it chooses, and
// the kernel lets the old one go. One of another type is refused.
func TestTakeProgram(t *testing.T) {
	root := privateNamespaces(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	server := netip.MustParseAddrPort("127.0.0.1:7626")
	s := createSet(t, 64)
	load := func() *ebpf.Program {
		t.Helper()
		programs, err := s.LoadPrograms(ebpf.ProgramOptions{})
		must(err)
		must(programs.XDP.Close())
		return s.Sockets.program
	}
	pin := filepath.Join(root, "roam_socket")
	if err := s.Sockets.PinProgram(pin); !errors.Is(err, ErrNoProgram) {
		t.Errorf("PinProgram without one: %v", err)
	}
	fresh, err := load().Clone() // as another process would offer it
	must(err)
	defer fresh.Close()
	must(s.Sockets.PinProgram(pin))
	old := load()
	info, err := old.Info()
	must(err)
	id, _ := info.ID()

	main, other := listenReuseport(t, server.String()), listenReuseport(t, server.String())
	must(s.Sockets.Attach(rawConn(t, main)))
	must(s.Sockets.Register(0, 0, LaneMain, rawConn(t, main)))
	must(s.Sockets.Register(0, 0, LaneCandidate, rawConn(t, other)))
	must(s.Listeners.Add(Listener{Addr: server}))
	must(s.Sockets.TakeProgram(pin))

	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		must(errors.Join(err, p.Close()))
		if time.Now().After(end) {
			t.Fatal("the kernel still has the old program")
		}
	}
	session, _, err := s.Sessions.Allocate(KindROAM, 0)
	must(err)
	client, buf := listenReuseport(t, "127.0.0.1:0"), make([]byte, 2048)
	_, err = client.WriteToUDPAddrPort(data(session), server)
	must(err)
	must(other.SetReadDeadline(time.Now().Add(patience)))
	if n, _, err := other.ReadFromUDPAddrPort(buf); err != nil || n != len(data(session)) {
		t.Errorf("the candidate socket: %d bytes, %v", n, err)
	}

	xdp, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	must(err)
	defer xdp.Close()
	must(xdp.Pin(pin + "_not"))
	if err := s.Sockets.TakeProgram(pin + "_not"); err == nil {
		t.Error("an XDP program was taken")
	}
	if err := s.Sockets.TakeProgram(pin + "_none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}
