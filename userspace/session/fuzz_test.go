// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// FuzzFrames plays a peer that holds the right keys and sends whatever it likes:
// each step of the input is a choice of end, source, id and time, and the frames
// of a packet. Nothing may panic, the 3x ledger and the 8 ids hold (the
// simulation checks both), and timers come to an end.
func FuzzFrames(f *testing.F) {
	for _, d := range loadVectors(f).Data {
		b, err := hex.DecodeString(d.Frames)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 250 {
			f.Add(append([]byte{0, byte(len(b))}, b...))
			f.Add(append([]byte{0x17, byte(len(b))}, b...))
		}
	}
	f.Add([]byte{0xD0, 0, 0x05, 0, 0xE2, 0, 0x01, 0, 0xF1, 0, 0x20, 0, 0xD0, 0})
	f.Add([]byte{0x01, 9, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x42, 9, 1, 0, 0, 0, 0, 0, 0, 0, 8})
	f.Fuzz(func(t *testing.T, in []byte) {
		m := opened(t, 1)
		m.run(time.Second)
		addrs := []netip.AddrPort{addrA, addrB, addrC, addrX}
		for steps := 0; len(in) >= 2 && steps < 50; steps++ {
			choice, n := in[0], min(int(in[1]), len(in)-2)
			frames := in[2 : 2+n]
			in = in[2+n:]
			if n == 0 {
				switch choice >> 4 {
				case 13:
					m.c.Rekey(m.now, &m.c.out)
				case 14:
					if m.c.State() == StateOpen {
						m.race([]netip.AddrPort{serverAddr, serverAddr2}, map[uint32]netip.AddrPort{uint32(choice & 3): addrB})
					}
				case 15:
					m.s.MoveLocal(m.now, []netip.AddrPort{serverAddr, serverAddr2}[choice&1], nil, &m.s.out)
				default:
					m.run(time.Duration(choice) * 20 * time.Millisecond)
				}
				m.flush(&m.c)
				m.flush(&m.s)
				continue
			}
			from, to := &m.c, &m.s
			path := Path{Remote: addrs[choice>>1&3]}
			if choice&1 == 1 {
				from, to = to, from
				path = Path{Socket: uint32(1 + choice>>1&1), Remote: serverAddr}
				if choice>>2&1 == 1 {
					path.Remote = addrX
				}
			}
			if from.State() > StateOpen {
				break
			}
			rid := from.rid
			if choice>>4&3 == 1 {
				if r := from.spare(path); r != nil {
					rid = r
				}
			}
			// A current cookie now and then, which no mutation would find.
			frames = append([]byte(nil), frames...)
			if len(to.candidates) > 0 && choice>>6 == 1 {
				frames = wire.AppendResponse(frames, to.candidates[0].cookie)
			} else if len(to.candidates) > 0 && choice>>6 == 2 {
				frames = wire.AppendResponse(frames, to.candidates[0].oldCookie)
			}
			pkt := m.craftOn(from, rid, frames)
			if to == &m.s {
				m.inject(path.Remote, pkt)
			} else {
				m.c.Receive(m.now, path, pkt, &m.c.out)
				m.flush(&m.c)
			}
		}
		m.run(5 * time.Second)
		m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
		m.s.Close(m.now, wire.CloseDone, "", &m.s.out)
		m.flush(&m.c)
		m.flush(&m.s)
		m.run(5 * time.Minute)
		if !m.c.ended || !m.s.ended {
			t.Errorf("client %v, server %v", m.c.State(), m.s.State())
		}
	})
}
