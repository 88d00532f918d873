// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// craft seals frames as the end's next packet on its current id.
func (m *sim) craft(e *end, frames []byte) []byte { return m.craftOn(e, e.rid, frames) }

func (m *sim) craftOn(e *end, rid *remoteID, frames []byte) []byte {
	var out Output
	start := begin(&out, len(frames))
	out.arena = append(out.arena, frames...)
	if !e.finish(m.now, &out, start, e.path, rid, true) {
		m.t.Fatal("cannot seal")
	}
	return out.Packets[0].Data
}

// capture records what the server sends and delivers nothing of it to anyone.
type capture struct{ flights []flight }

func (c *capture) drop(f flight) []flight {
	if !f.toServer {
		c.flights = append(c.flights, f)
	}
	return nil
}

func (c *capture) take() []flight {
	f := c.flights
	c.flights = nil
	return f
}

// framesTo opens what the server sent to an address and lists its frames.
func (m *sim) framesTo(flights []flight, dst netip.AddrPort) (frames []wire.Frame) {
	for _, f := range flights {
		if f.dst != dst {
			continue
		}
		counter, id, err := wire.ParseData(f.data)
		if err != nil {
			m.t.Fatal(err)
		}
		in := m.c.findLocal(&id)
		if in == nil {
			m.t.Fatalf("packet to %v on an id that the client has not issued or has retired", dst)
		}
		plain, ok := m.c.open(in, counter, slices.Clone(f.data), nil, new(Output))
		if !ok {
			m.t.Fatal("does not open")
		}
		var fr wire.Frame
		for r := wire.NewFrameReader(plain); r.Next(&fr); {
			frames = append(frames, fr)
		}
	}
	return frames
}

func cookieOf(frames []wire.Frame) (c wire.Cookie, n int) {
	for _, f := range frames {
		if f.Type == wire.FrameChallenge {
			c = f.Cookie
			n++
		}
	}
	return c, n
}

func pingFrame(token uint64) []byte { return wire.AppendPing(nil, token) }
