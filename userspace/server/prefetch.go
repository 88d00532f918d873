// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A session that has been quiet for a moment is in no cache, and the way from a
// packet to the round keys that open it is eight pointers long: a microsecond, most
// of it waiting. The sessions of a batch have nothing to do with each other, so find
// goes that way for all of them in step, and they wait together.

// recentIDs is how many ids a reader takes for being in its cache: what their
// sessions hold, 2 KiB each, is half of a usual second-level cache.
const recentIDs = 256

// recent remembers the ids of the last packets by part of what is random in them,
// since touching what is near would cost more than it saves. Who makes ids up can
// make it forget, and wins nothing but that sessions are touched.
type recent [recentIDs]uint64

// has reports whether the id was seen lately, and remembers it.
func (r *recent) has(id *wire.ID) bool {
	mark := binary.LittleEndian.Uint64(id[4:])
	last := &r[mark%recentIDs]
	seen := *last == mark
	*last = mark
	return seen
}

// touched is packets of one session, one after the other in a batch, that have to
// wait for it.
type touched struct {
	id         wire.ID
	first, end int
	counter    uint64 // of the first
	session    *Session
}

// find notes the session that each packet names, or nil, and touches those that
// were not seen lately. Packets of one session often follow each other.
func (r *reader) find(in []netio.Message) {
	var last wire.ID // none is zero
	var s *Session
	waits := false // s is not known yet
	cold := r.cold[:0]
	for i := range in {
		pkt := in[i].Data()
		counter, id, err := wire.ParseData(pkt)
		if err != nil || len(pkt) > wire.MaxPacket {
			id = wire.ID{}
		}
		switch {
		case id == last:
			if waits {
				cold[len(cold)-1].end++
			}
		case id == wire.ID{}:
			s, waits = nil, false
		case r.recent.has(&id):
			s, waits = r.srv.lookup(&id), false
		default:
			s, waits = nil, true
			r.srv.directory.touch(r.srv.table.Touch((*maps.ID)(&id)))
			cold = append(cold, touched{id: id, first: i, end: i + 1, counter: counter})
		}
		last = id
		r.sessions[i] = s
	}
	known := cold[:0]
	for _, t := range cold {
		if t.session = r.srv.lookup(&t.id); t.session != nil {
			known = append(known, t)
			for i := t.first; i < t.end; i++ {
				r.sessions[i] = t.session
			}
		}
	}
	if touch(known, r.lane != maps.LaneMain); r.lane == maps.LaneCandidate {
		touchPaths(known)
	}
	clear(cold)
	r.cold = cold[:0]
}

// touchDue touches sessions whose timers have fired: most have been quiet since
// they were armed, and most have something to send.
func touchDue(due []*Session) {
	var all [batchSize]touched
	for i, s := range due {
		all[i].session = s
		prefetch.Object(s)
	}
	touchPaths(all[:len(due)])
}

// touch gets sessions into the cache that are about to be locked and called; where
// answers says so, also what they send with.
func touch(all []touched, answers bool) {
	if len(all) < 2 {
		return // nothing to overlap
	}
	for i := range all {
		prefetch.Object(all[i].session)
	}
	for step := range session.TouchSteps {
		for i := range all {
			all[i].session.state.Touch(step, all[i].counter, answers) // state is there since the session can be found
		}
	}
}

// touchPaths gets what sessions hold of paths into the cache as well.
func touchPaths(all []touched) {
	for step := range session.PathSteps {
		for i := range all {
			s := all[i].session
			if !s.mu.TryLock() {
				continue // whoever has it is ahead of us
			}
			if step == 0 {
				prefetch.Object(s.history)
			}
			s.state.TouchPaths(step, &all[i].id)
			s.mu.Unlock()
		}
	}
}

// lookup returns the session of an id, or nil.
func (srv *Server) lookup(id *wire.ID) *Session {
	slot, live := srv.table.Lookup((*maps.ID)(id))
	if !live {
		return nil
	}
	return srv.directory.at(slot)
}
