// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// idleRotate is after how long without a datagram either way a client sends the
// next one on a fresh id.
const idleRotate = 30 * time.Second

// canSend returns nil while the session carries packets of ours.
func (s *Session) canSend() error {
	switch {
	case s.state > StateOpen:
		return ErrClosed
	case s.state == StateUnconfirmed && s.role == Server:
		return ErrNotConfirmed
	}
	return nil
}

// canLead returns nil while we are a client that may move the session.
func (s *Session) canLead() error {
	switch {
	case s.role != Client:
		return ErrNotClient
	case s.state > StateOpen:
		return ErrClosed
	case s.state < StateOpen:
		return ErrNotConfirmed
	}
	return nil
}

// Send sends one datagram: whole if it fits the path MTU, else in up to four
// parts. A lost part loses the datagram. Data flows to a candidate path as far as
// its 3x budget goes, else to the current path. It fails with ErrTooLarge (more
// than the peer accepts, or than four parts carry), ErrClosed or ErrNotConfirmed;
// then nothing was sent.
func (s *Session) Send(now Time, datagram []byte, out *Output) error {
	if err := s.canSend(); err != nil {
		return err
	}
	if len(datagram) > int(s.peerMaxDatagram) {
		return ErrTooLarge
	}
	if s.role == Client && s.state == StateOpen && now-s.finder.lastDatagram >= idleRotate {
		s.rotateSparing()
	}
	if s.guard(now, out) {
		return ErrClosed
	}
	if c := s.lead(); c != nil && c.rid.counter < wire.MaxCounter-rotateReserve {
		mtu := floorOf(c.path)
		// One more CHALLENGE stays affordable: without it the move would hang on data.
		need := sizeOf(len(datagram), mtu)
		if need > 0 && c.ledger.fits(need+probeSize) {
			s.renew(now, &c.rid, c.path)
			s.sendDatagram(now, c.path, c.rid, mtu, datagram, out)
			return nil
		}
		s.count(OverBudget)
	}
	if sizeOf(len(datagram), s.mtu.size) == 0 {
		s.searchMTU(now, len(datagram)+wire.MinData, out)
		return ErrTooLarge
	}
	s.renew(now, &s.rid, s.path)
	s.sendDatagram(now, s.path, s.rid, s.mtu.size, datagram, out)
	if need := len(datagram) + wire.MinData; need > s.mtu.size {
		s.searchMTU(now, need, out)
	} else if need > floorOf(s.path) {
		s.testMTU(now, out)
	}
	return nil
}

// partRoom is the data that one DATAGRAM_PART carries.
func partRoom(mtu int) int { return mtu - wire.Overhead - wire.DatagramPartHeader }

// sizeOf is the UDP payload in all of a datagram of n bytes, or 0 if it does not
// fit four parts.
func sizeOf(n, mtu int) int {
	if n+wire.MinData <= mtu {
		return n + wire.MinData
	}
	parts := (n + partRoom(mtu) - 1) / partRoom(mtu)
	if parts > wire.MaxParts {
		return 0
	}
	return n + parts*(wire.Overhead+wire.DatagramPartHeader)
}

func (s *Session) sendDatagram(now Time, path Path, rid *remoteID, mtu int, datagram []byte, out *Output) {
	s.noteUse(now)
	s.expect(now)
	if s.finder != nil {
		s.finder.inRow = 0
	}
	s.sent.Datagrams++
	s.sent.DatagramBytes += uint64(len(datagram))
	if len(datagram)+wire.MinData <= mtu {
		start := begin(out, len(datagram)+1)
		out.arena = wire.AppendDatagram(out.arena, datagram)
		s.finish(now, out, start, path, rid, false)
		return
	}
	room := partRoom(mtu)
	part := wire.DatagramPart{Number: s.partNumber, Count: uint8((len(datagram) + room - 1) / room)}
	s.partNumber++
	for ; part.Index < part.Count; part.Index++ {
		n := min(room, len(datagram))
		start := begin(out, n+wire.DatagramPartHeader)
		out.arena = wire.AppendDatagramPart(out.arena, part, datagram[:n])
		s.finish(now, out, start, path, rid, false)
		datagram = datagram[n:]
	}
}

// noteUse notes that the session is of use: it carries a datagram or a part of one.
func (s *Session) noteUse(now Time) {
	s.carried, s.worn = true, true
	if s.finder != nil {
		s.finder.lastDatagram = now
	}
}

// deliver hands a datagram of the peer out.
func (s *Session) deliver(now Time, data []byte, out *Output) {
	s.noteUse(now)
	s.listened(out)
	if len(data) > int(s.maxDatagram) {
		s.count(DatagramTooLarge)
		return
	}
	s.received.Datagrams++
	s.received.DatagramBytes += uint64(len(data))
	out.Datagrams = append(out.Datagrams, data)
}
