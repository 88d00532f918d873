// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxPartial datagrams are put together at a time; a further one replaces the
	// oldest.
	maxPartial = 8
	// partialAge is how long the parts of one datagram may take.
	partialAge = time.Second
)

// partial is a datagram of which some parts have come.
type partial struct {
	number uint32
	count  uint8
	have   uint8 // bit for each part
	size   int
	begun  Time
	parts  [wire.MaxParts][]byte // reused from one datagram to the next
}

// partials are in order of their first part, oldest first. idle are finished ones
// whose memory is kept until the session falls idle.
type partials struct {
	open, idle []*partial
}

// part takes one DATAGRAM_PART and hands out the datagram if it was the last.
func (s *Session) part(now Time, f *wire.Frame, out *Output) {
	s.noteUse(now)
	if s.parts == nil {
		s.parts = new(partials)
	}
	s.expireParts(now)
	i := slices.IndexFunc(s.parts.open, func(p *partial) bool { return p.number == f.Part.Number })
	if i < 0 {
		if len(s.parts.open) == maxPartial {
			s.count(PartExpired)
			s.closePartial(0)
		}
		i = len(s.parts.open)
		s.parts.open = append(s.parts.open, s.newPartial(now, f.Part))
	}
	p := s.parts.open[i]
	bit := uint8(1) << f.Part.Index
	switch {
	case p.count != f.Part.Count, p.have&bit != 0:
		s.count(PartRefused)
		return
	case p.size+len(f.Data) > int(s.maxDatagram):
		s.count(DatagramTooLarge)
		s.closePartial(i)
		return
	}
	p.parts[f.Part.Index] = append(p.parts[f.Part.Index][:0], f.Data...)
	p.have |= bit
	p.size += len(f.Data)
	if p.have != 1<<p.count-1 {
		return
	}
	out.reserve(p.size)
	start := len(out.arena)
	for _, b := range p.parts[:p.count] {
		out.arena = append(out.arena, b...)
	}
	s.closePartial(i)
	s.deliver(now, out.arena[start:len(out.arena):len(out.arena)], out)
}

func (s *Session) newPartial(now Time, d wire.DatagramPart) *partial {
	var p *partial
	if n := len(s.parts.idle); n > 0 {
		p = s.parts.idle[n-1]
		s.parts.idle = s.parts.idle[:n-1]
	} else {
		p = new(partial)
	}
	p.number, p.count, p.have, p.size, p.begun = d.Number, d.Count, 0, 0, now
	return p
}

func (s *Session) closePartial(i int) {
	s.parts.idle = append(s.parts.idle, s.parts.open[i])
	s.parts.open = slices.Delete(s.parts.open, i, i+1)
}

// expireParts gives up datagrams whose parts took too long.
func (s *Session) expireParts(now Time) {
	for s.parts != nil && len(s.parts.open) > 0 && now >= s.parts.open[0].begun+partialAge {
		s.count(PartExpired)
		s.closePartial(0)
	}
}
