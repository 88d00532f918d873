// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxLive is the most ids that one end may have live.
	maxLive = 8
	// spareIDs is how many unused ids are kept at the peer.
	spareIDs = 2
	// minRetire is the shortest silence after which an id is retired.
	minRetire = time.Second
	// issueAgain is when IDs.Issue is asked again after it failed.
	issueAgain = 10 * time.Second
	// closeReserve is how many packets of an id's 2^28 are kept back, so that a
	// session without a further id can still say CLOSE, and say it again.
	closeReserve = 16
	// rotateReserve packets before the end a sender moves to its next id.
	rotateReserve = 1 << 16
)

// localID is an id that we issued: we receive on it. Those that are spare or
// at rest have no use.
type localID struct {
	LocalID
	// used: it carried a packet, so it is no spare any more.
	used bool
	// superseded: a newer id carried a non-probing packet.
	superseded bool
	// retired: no longer live, though a path may still be named after it.
	retired bool
	// floor and next bound the counters: those below floor are old, whatever the
	// window says; next is one above the highest received.
	floor, next uint32
	use         *receiving
	// heard is when it last carried a non-probing packet, or when a newer one took
	// over: from then on it has to be silent.
	heard Time
}

// remoteID is an id that the peer issued: we send on it.
type remoteID struct {
	RemoteID
	// taken: it is or was the id of a path, so it is no spare any more.
	taken bool
	// probed: it answered or asked on source, and is kept for that in case it becomes
	// a path.
	probed bool
	source *Path
	key    *idKey
	// counter is the next packet's; bytes is what it has carried.
	counter, bytes uint64
	// superseded is when a newer one first carried a non-probing packet of ours, if
	// one did: a while later the peer may retire this one.
	superseded Time
}

// keptFor reports whether the id is kept for p.
func (r *remoteID) keptFor(p Path) bool { return r.probed && r.source != nil && r.source.Same(p) }

// keep keeps an id for p.
func (r *remoteID) keep(p Path) { r.taken, r.probed, r.source = false, true, &p }

// findLocal returns the live id of ours that a packet names, or nil.
func (s *Session) findLocal(id *wire.ID) *localID {
	if l := s.pathLocal; l.ID == *id && !l.retired {
		return l // nearly always
	}
	for i := len(s.local) - 1; i >= 0; i-- {
		if s.local[i].ID == *id {
			return s.local[i]
		}
	}
	return nil
}

// spare returns an id of the peer for a path to source that has none yet, or nil:
// the one kept for that source, else an unused one. An id that answered a probe
// from elsewhere is better than none: that source never became a path, so sharing
// it links no more than keeping the current id would.
func (s *Session) spare(source Path) *remoteID {
	fresh, probed := s.unseen(source)
	if fresh != nil {
		return fresh
	}
	return probed
}

// unseen is spare, with those apart that answered a probe from elsewhere.
func (s *Session) unseen(source Path) (fresh, probed *remoteID) {
	for _, r := range s.remote {
		switch {
		case r.taken || !s.usable(r) || r.Seq < s.sentSeq:
		case r.keptFor(source):
			return r, nil
		case s.races(r): // it may be the winner's
		case r.Seq <= s.unusedAbove():
		case !r.probed && fresh == nil:
			fresh = r
		case r.probed && probed == nil:
			probed = r
		}
	}
	return fresh, probed
}

// unusedAbove is the seq above which the peer's ids can be unused: it may retire
// those below one that carried our packets.
func (s *Session) unusedAbove() uint32 { return max(s.rid.Seq, s.sentSeq) }

// safe is the id for want of a spare one: the current one, or the one above it
// that has carried our packets, since the peer may have retired the current one
// for it.
func (s *Session) safe() *remoteID {
	if s.sentSeq <= s.rid.Seq {
		return s.rid // nearly always
	}
	for _, r := range s.remote {
		if r.Seq == s.sentSeq && r.Seq > s.rid.Seq {
			return r
		}
	}
	return s.rid
}

// spareForProbe returns the id that answers a probe from source, which came on
// another id than the current path's: the one kept for it, else an unused one, else
// the current id.
func (s *Session) spareForProbe(source Path) *remoteID {
	r := s.spare(source)
	if r == nil || r.probed && !r.keptFor(source) {
		return s.rid
	}
	r.keep(source)
	return r
}

// take makes the next spare id that of the path to source. Without one it
// returns one in use: roaming still works, only linkable.
func (s *Session) take(source Path) *remoteID {
	r := s.spare(source)
	if r == nil {
		s.count(NoSpareID)
		return s.safe()
	}
	r.taken, r.probed, r.source = true, false, nil
	return r
}

// renew replaces the id of a path if the peer may have retired it, because a newer
// one carries packets to another path while both are being validated.
func (s *Session) renew(now Time, rid **remoteID, path Path) {
	if r := *rid; r.Seq < s.sentSeq && now >= r.superseded+minRetire {
		publish(rid, s.take(path))
	}
}

// noteSent notes that a non-probing packet of ours went out on an id.
func (s *Session) noteSent(now Time, rid *remoteID) {
	if rid.Seq <= s.sentSeq {
		return
	}
	for _, r := range s.remote {
		if r.Seq >= s.sentSeq && r.Seq < rid.Seq {
			r.superseded = now
		}
	}
	s.sentSeq = rid.Seq
}

// settle moves the current path off an id that the peer may have retired: a newer
// one has carried packets to another path, which did not become ours. Without an unused
// one there is still a while in which one may come, until renew.
func (s *Session) settle(now Time) {
	fresh, _ := s.unseen(s.path)
	if s.rid.Seq < s.sentSeq && (fresh != nil || now >= s.rid.superseded+minRetire) {
		publish(&s.rid, s.take(s.path))
	}
	s.forgetRemote()
}

// forgetRemote drops ids of the peer that no path needs any more. Unused ones below
// the current id go too once it has carried a packet, as the peer may retire them then;
// before, a return to the old path would leave us without what the peer counts as
// unused. Those above it are spare again.
func (s *Session) forgetRemote() {
	keep := s.remote[:0]
	for _, r := range s.remote {
		needed := s.pathNeeds(r)
		if !needed && r.Seq < s.rid.Seq && (r.Seq < s.sentSeq || !s.usable(r)) {
			publish(&r.key, nil)
			continue
		}
		if r.taken && !needed {
			r.taken, r.probed, r.source = false, r.counter > 0, nil
		}
		keep = append(keep, r)
	}
	clear(s.remote[len(keep):])
	s.remote = keep
}

// pathNeeds reports whether r is the id of a path, or the newest that carried
// packets of ours.
func (s *Session) pathNeeds(r *remoteID) bool {
	if r == s.rid || r.Seq == s.sentSeq || s.localMove != nil && s.localMove.rid == r {
		return true
	}
	for i := range s.candidates {
		if s.candidates[i].rid == r {
			return true
		}
	}
	for i := range s.departures {
		if s.departures[i].rid == r {
			return true
		}
	}
	for i := range s.leftPaths() {
		if s.finder.left[i].rid == r {
			return true
		}
	}
	return s.races(r)
}

// newRemote takes a NEW_ID. A repeat that differs, a gap, or more ids than may
// be live is a protocol error.
func (s *Session) newRemote(f *wire.Frame) error {
	if f.Seq > s.remoteTop {
		if f.Seq != s.remoteTop+1 {
			return errIDGap
		}
		spares := 0
		for _, r := range s.remote {
			if !r.taken && r.Seq > s.unusedAbove() {
				spares++
			}
		}
		if spares >= maxLive {
			return errTooManyIDs
		}
		s.remoteTop = f.Seq
		s.remote = append(s.remote, &remoteID{RemoteID: RemoteID{f.Seq, f.ID, f.Reset}})
		return nil
	}
	for _, r := range s.remote {
		if r.Seq == f.Seq && (r.ID != f.ID || r.Reset != f.Reset) {
			return errIDDiffers
		}
	}
	return nil // a repeat, or of an id that we have done with
}

// spareLocal counts the ids of ours that the peer has not used and may still use.
func (s *Session) spareLocal() (n int) {
	for _, l := range s.local {
		if !l.used && !l.superseded {
			n++
		}
	}
	return n
}

// topUp keeps spareIDs unused ids at the peer, within maxLive. It reports whether
// there is something new to tell.
func (s *Session) topUp(now Time) (issued bool) { return s.issue(now, spareIDs-s.spareLocal()) > 0 }

// issue issues up to n ids, within maxLive, and returns how many it did.
func (s *Session) issue(now Time, n int) (issued int) {
	for ; issued < n && len(s.local) < maxLive; issued++ {
		id, reset, err := s.ids.Issue()
		if err != nil {
			s.count(IssueFailed)
			s.needIDs, s.retryIDs = true, now+issueAgain
			break
		}
		s.localTop++
		s.ctl.unacked++ // at most 8 are live, and only old ones go without an answer
		s.local = append(s.local, &localID{LocalID: LocalID{s.localTop, id, reset}, heard: now})
	}
	return issued
}

// supersede starts the silence of every id below seq.
func (s *Session) supersede(now Time, seq uint32) {
	for _, l := range s.local {
		if l.Seq >= seq {
			break // they are in order: mostly at the first
		}
		if !l.superseded {
			l.superseded, l.heard = true, now
			s.needIDs = s.needIDs || !l.used // it is no spare any more
		}
	}
}

// retireAfter is how long a superseded id has to be silent.
func (s *Session) retireAfter() time.Duration { return max(3*s.rtt.pto(), minRetire) }

// retireDue retires the superseded ids that have been silent for long enough.
func (s *Session) retireDue(now Time) {
	if len(s.local) == 0 || !s.local[0].superseded {
		return // the lowest one is the first to be
	}
	silence := s.retireAfter()
	s.retire(func(l *localID) bool { return l.superseded && now >= l.heard+silence })
}

// retire gives up the ids of ours that done names.
func (s *Session) retire(done func(*localID) bool) {
	keep := s.local[:0]
	for _, l := range s.local {
		if done(l) {
			s.giveUp(l)
			continue
		}
		keep = append(keep, l)
	}
	if len(keep) < len(s.local) {
		s.needIDs = true // there is room for another one
		clear(s.local[len(keep):])
		s.local = keep
	}
}

// giveUp ends the life of an id of ours.
func (s *Session) giveUp(l *localID) {
	l.retired = true
	s.ids.Retire(l.ID)
}

// releaseKeys drops every built AEAD and replay window; the next packet builds its
// own again.
func (s *Session) releaseKeys() {
	for _, l := range s.local {
		l.rest()
	}
	for _, r := range s.remote {
		publish(&r.key, nil)
	}
	s.keysBuilt = false
}
