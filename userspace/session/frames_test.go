// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Every bad frame closes the session with code 1 and the vectors' words, and
// nothing else in its packet counts.
func TestBadFrames(t *testing.T) {
	v := struct {
		vectors
		Bad []struct{ Frames, Why string } `json:"bad_frames"`
	}{}
	loadJSON(t, &v)
	if len(v.Bad) == 0 {
		t.Fatal("no bad frames")
	}
	for _, bad := range v.Bad {
		m := opened(t, 1)
		frames := append(wire.AppendDatagramLen(nil, []byte("before")), unhex(t, bad.Frames)...)
		if r := m.inject(addrA, m.craft(&m.c, frames)); r != ProtocolError {
			t.Errorf("%s: %v", bad.Why, r)
		}
		if len(m.s.got) != 0 {
			t.Errorf("%s: a datagram of a bad packet was delivered", bad.Why)
		}
		m.run(time.Second)
		if len(m.c.events) != 1 || m.c.events[0].Code != wire.CloseProtocolError || m.c.events[0].Text != bad.Why {
			t.Errorf("%s: client saw %+v", bad.Why, m.c.events)
		}
	}
}

// Frames that mean nothing here are ignored and counted.
func TestIgnoredFrames(t *testing.T) {
	var noise [wire.RekeyNoiseLen]byte
	addrs := []netip.AddrPort{addrX}
	tests := []struct {
		name   string
		from   Role
		frames []byte
		reason Reason
	}{
		{"ADDRS from a client", Client, wire.AppendAddrs(nil, addrs), WrongSide},
		{"REKEY_INIT from a server", Server, wire.AppendRekeyInit(nil, 1, 3, noise), WrongSide},
		{"REKEY_RESP from a client", Client, wire.AppendRekeyResp(nil, 1, 3, noise), WrongSide},
		{"REKEY_RESP unasked", Server, wire.AppendRekeyResp(nil, 1, 3, noise), RekeyUnasked},
		{"REKEY_INIT of the epoch now", Client, wire.AppendRekeyInit(nil, 0, 3, noise), RekeyLate},
		{"REKEY_RESP of the epoch now", Server, wire.AppendRekeyResp(nil, 0, 3, noise), RekeyLate},
		{"RESPONSE", Client, wire.AppendResponse(nil, wire.Cookie{}), AnswerUnknown},
		{"NOT_PREFERRED", Server, wire.AppendNotPreferred(nil, wire.Cookie{}), AnswerUnknown},
		{"PONG", Client, wire.AppendPong(nil, 1), PongUnknown},
		{"VERSIONS", Client, wire.AppendVersions(nil, []uint32{1, 2}), Delivered},
		{"an extension", Server, wire.AppendExtension(nil, 0x77, []byte("x")), Delivered},
		{"PAD", Server, wire.AppendPad(nil, 10), Probed},
	}
	for _, tt := range tests {
		m := opened(t, 1)
		from, to, path := &m.c, &m.s, Path{Remote: addrA}
		if tt.from == Server {
			from, to, path = &m.s, &m.c, m.c.Path()
		}
		before := to.Info()
		to.Receive(m.now, path, m.craft(from, tt.frames), &to.out)
		after := to.Info()
		if after.State != StateOpen || after.Counts[tt.reason] != before.Counts[tt.reason]+1 {
			t.Errorf("%s: %v, counted %d", tt.name, after.State, after.Counts[tt.reason]-before.Counts[tt.reason])
		}
		if len(to.out.Packets) != 0 {
			t.Errorf("%s was answered", tt.name)
		}
		if len(to.ServerAddrs()) != 0 {
			t.Errorf("%s was remembered", tt.name)
		}
	}
}

func TestParams(t *testing.T) {
	m := opened(t, 1)
	m.inject(addrA, m.craft(&m.c, wire.AppendParams(nil, 120, 100)))
	m.clientSend("x")
	m.run(time.Second)
	if got := m.s.Info().IdleTimeout; got != 2*time.Minute {
		t.Errorf("idle timeout %v", got)
	}
	if err := m.serverSend(strings.Repeat("x", 101)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("101 bytes: %v", err)
	}
	m.inject(addrA, m.craft(&m.c, wire.AppendParams(nil, 0, 0))) // says nothing
	if err := m.serverSend(strings.Repeat("x", 100)); err != nil {
		t.Errorf("100 bytes: %v", err)
	}
	if got := m.s.Info().IdleTimeout; got != 2*time.Minute {
		t.Errorf("idle timeout %v after PARAMS of zeros", got)
	}
}

func TestDatagramForms(t *testing.T) {
	m := opened(t, 1)
	frames := wire.AppendDatagramLen(nil, []byte("one"))
	frames = wire.AppendDatagramLen(frames, nil)
	frames = wire.AppendExtension(frames, 0x47, []byte("?"))
	frames = wire.AppendDatagram(frames, []byte("rest"))
	m.inject(addrA, m.craft(&m.c, frames))
	if want := []string{"one", "", "rest"}; !slices.Equal(m.s.got, want) {
		t.Errorf("got %q", m.s.got)
	}
	m.s.maxDatagram = 3
	m.inject(addrA, m.craft(&m.c, frames))
	if got := m.s.Info().Counts[DatagramTooLarge]; got != 1 || len(m.s.got) != 5 {
		t.Errorf("%d too large, %d delivered", got, len(m.s.got))
	}
}

func TestParts(t *testing.T) {
	part := func(number uint32, index, count uint8, data string) []byte {
		return wire.AppendDatagramPart(nil, wire.DatagramPart{Number: number, Index: index, Count: count}, []byte(data))
	}
	m := opened(t, 1)
	give := func(b []byte) { m.inject(addrA, m.craft(&m.c, b)) }
	counts := func(r Reason) uint64 { return m.s.Info().Counts[r] }

	give(part(1, 2, 3, "c"))
	give(part(1, 0, 3, "a"))
	give(part(2, 0, 2, "x")) // another one in between
	give(part(1, 1, 3, "b"))
	give(part(2, 1, 2, "y"))
	if want := []string{"abc", "xy"}; !slices.Equal(m.s.got, want) {
		t.Errorf("got %q, want %q", m.s.got, want)
	}

	give(part(3, 0, 2, "a"))
	give(part(3, 0, 2, "A")) // twice
	give(part(3, 1, 4, "B")) // of another count
	if counts(PartRefused) != 2 {
		t.Errorf("%d parts refused", counts(PartRefused))
	}
	give(part(3, 1, 2, "b"))
	if got := m.s.got[len(m.s.got)-1]; got != "ab" {
		t.Errorf("got %q", got)
	}

	// 1 s each.
	give(part(4, 0, 2, "a"))
	m.run(partialAge)
	give(part(4, 1, 2, "b"))
	m.run(2 * partialAge)
	if len(m.s.got) != 3 || counts(PartExpired) != 2 || len(m.s.parts.open) != 0 {
		t.Errorf("got %q, %d expired, %d open", m.s.got, counts(PartExpired), len(m.s.parts.open))
	}

	// At most 8: the ninth replaces the oldest.
	for n := range uint32(9) {
		give(part(10+n, 0, 2, "a"))
	}
	give(part(10, 1, 2, "b")) // its first part is gone; this replaces number 11
	give(part(12, 1, 2, "b"))
	if len(m.s.got) != 4 || counts(PartExpired) != 4 {
		t.Errorf("got %q, %d expired", m.s.got, counts(PartExpired))
	}
	if n := len(m.s.parts.open) + len(m.s.parts.idle); n > maxPartial {
		t.Errorf("%d partial datagrams held", n)
	}

	// No larger than we accept.
	m.s.maxDatagram = 1500
	give(part(30, 0, 2, strings.Repeat("a", 1000)))
	give(part(30, 1, 2, strings.Repeat("a", 1000)))
	if len(m.s.got) != 4 || counts(DatagramTooLarge) != 1 {
		t.Errorf("%d datagrams, %d too large", len(m.s.got), counts(DatagramTooLarge))
	}
}

func TestSendSizes(t *testing.T) {
	for _, addr := range []netip.AddrPort{addrA, addrC} {
		m := opened(t, 1)
		m.rebind(addr)
		m.clientSend("x")
		m.run(3 * time.Second)
		m.network = func(f flight) []flight { return []flight{f} }
		floor := floorOf(Path{Remote: addr})
		whole := floor - wire.MinData
		most := 4 * partRoom(floor)
		m.s.peerMaxDatagram, m.c.maxDatagram = 65535, 65535
		for _, n := range []int{0, 1, whole, whole + 1, 2 * partRoom(floor), 2*partRoom(floor) + 1, most} {
			m.s.mtu.reset(m.s.path)
			m.s.mtu.begin().rest = 1 << 60
			m.s.mtu.search.tooBig = uint16(floor + 1) // no search: sizes at the smallest MTU
			m.forget()
			data := strings.Repeat("d", n)
			if err := m.s.Send(m.now, []byte(data), &m.s.out); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			want := 1
			if n > whole {
				want = (n + partRoom(floor) - 1) / partRoom(floor)
			}
			if len(m.s.out.Packets) != want {
				t.Errorf("%d bytes in %d packets, want %d", n, len(m.s.out.Packets), want)
			}
			for _, p := range m.s.out.Packets {
				if len(p.Data) > floor {
					t.Errorf("a packet of %d bytes on %v", len(p.Data), addr)
				}
			}
			m.flush(&m.s)
			m.run(time.Second)
			if len(m.c.got) != 1 || m.c.got[0] != data {
				t.Errorf("%d bytes on %v: got %d datagrams", n, addr, len(m.c.got))
			}
		}
		if err := m.serverSend(strings.Repeat("d", most+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes: %v", most+1, err)
		}
	}
}

// The path MTU is found by padded PINGs once a datagram did not fit, tested while
// it is in use, and forgotten at a move.
func TestMTU(t *testing.T) {
	for _, path := range []struct{ carries, want int }{
		{1472, 1472}, {8972, 8972}, {1300, 1300 - mtuStep}, {1252, 1252}, {1400, 1400 - mtuStep},
	} {
		m := opened(t, 1)
		limit := path.carries
		m.network = func(f flight) []flight {
			if len(f.data) > limit {
				return nil
			}
			return []flight{f}
		}
		for range 20 {
			m.clientSend(strings.Repeat("d", 1400))
			m.clientSend(strings.Repeat("d", 4000))
			m.run(time.Second)
		}
		got := m.c.Info().MTU
		if got > path.carries || got < path.want {
			t.Errorf("path of %d: found %d", path.carries, got)
		}
		if got == wire.InitialMTU4 {
			continue
		}
		// The route changes under the session.
		limit = wire.InitialMTU4
		for range 40 {
			m.clientSend(strings.Repeat("d", min(got-wire.MinData, 4000)))
			m.run(time.Second)
		}
		m.forget()
		m.clientSend(strings.Repeat("e", 1400))
		m.run(time.Second)
		if m.c.Info().MTU != wire.InitialMTU4 || len(m.s.got) != 1 {
			t.Errorf("path of %d shrank to %d: MTU %d, got %d", path.carries, limit, m.c.Info().MTU, len(m.s.got))
		}
	}
	m := opened(t, 1)
	m.clientSend(strings.Repeat("d", 1400))
	m.run(time.Second)
	if m.c.Info().MTU <= wire.InitialMTU4 {
		t.Error("not raised")
	}
	m.move(2, addrC)
	if got := m.c.Info().MTU; got != wire.InitialMTU4 { // the server's address is IPv4
		t.Errorf("after a move %d", got)
	}
	// A search that found its end begins again after a while.
	m = opened(t, 1)
	limit := wire.InitialMTU4
	m.network = func(f flight) []flight {
		if len(f.data) > limit {
			return nil
		}
		return []flight{f}
	}
	send := func(d time.Duration) int {
		for range 10 {
			m.clientSend(strings.Repeat("d", 1400))
			m.run(d / 10)
		}
		return m.c.Info().MTU
	}
	send(10 * time.Second)
	limit = 1472
	if got := send(10 * time.Second); got != wire.InitialMTU4 {
		t.Errorf("searched again at once: %d", got)
	}
	if got := send(2 * mtuAgain); got != 1472 {
		t.Errorf("not searched again: %d", got)
	}
	// Sessions of small datagrams do not search.
	m = opened(t, 1)
	before := m.s.Info().Sent.Packets
	for range 10 {
		m.serverSend("small")
	}
	m.run(5 * time.Second)
	if got := m.s.Info().Sent.Packets - before; got != 11 { // and the PONG for who has listened
		t.Errorf("%d packets for 10 datagrams", got)
	}
}
