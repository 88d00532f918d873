// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// rekeyAfter is the age of an epoch at which the client begins the next.
	rekeyAfter = 120 * time.Second
	// rekeyPackets is how many packets on one id, of either side, do the same.
	rekeyPackets = 1 << 27
	// rekeyIDs of the new epoch are issued with each half of the exchange.
	rekeyIDs = 2
	// rekeyAgain is when a client asks again whose REKEY_INIT has arrived but was not
	// answered, or that had no id to spare.
	rekeyAgain = 10 * time.Second
	// maxOldAge is when the old secrets go at the latest, from when the new ones are
	// in use.
	maxOldAge = 60 * time.Second
)

// What the peer's REKEY frames may not do.
var (
	errRekeyDiffers = errors.New("protocol error: REKEY_INIT differs from an earlier one of the same epoch")
	errRekeyEpoch   = errors.New("protocol error: REKEY_INIT skips an epoch")
	errRekeySeq     = errors.New("protocol error: the first seq of a rekey is of an id in use")
	errRekeyNoise   = errors.New("protocol error: the Noise message of a rekey does not open")
)

// epochs is which secrets are in use. The secrets of s.c2s and s.s2c are always
// those of epoch now.
type epochs struct {
	now uint32
	// heldFrom, unless 0, is where the peer says that its ids of the next epoch begin,
	// which is not agreed on yet: they are not to be used.
	heldFrom uint32
	// change is nil but for a rekey and the while after it in which old ids live.
	change *rekey
	begun  Time // this epoch
	again  Time // client, begin no rekey before: the last try failed
}

// rekey is one change of epoch, from REKEY_INIT until the old secrets are wiped.
// Ids of ours from localFirst on, and of the peer's from remoteFirst on, belong
// to the new epoch. There is one at a time, which bounds what a client can make a
// server compute.
type rekey struct {
	epoch                   uint32
	localFirst, remoteFirst uint32
	// agreed: the new secrets exist. confirmed: the peer has them too, so that we
	// send on its new ids; only on old ones before.
	agreed, confirmed bool
	confirmedAt       Time
	old               handshake.Secrets // once agreed
	cleared           bool              // no old id is left, since clearedAt
	clearedAt         Time

	// ours is what we send until it is acknowledged or its answer came, asked what
	// the client sent, to know a repeat.
	ours, asked handshake.RekeyMessage
	acked       bool
	again       Time             // client: an acknowledged INIT had no answer until then
	client      *handshake.Rekey // until REKEY_RESP
}

// secret returns the direction secret of an id, or nil if it has none yet (ours,
// announced for an epoch that is not agreed on) or any more. Ids that the server
// issued use C2S, ids of the client S2C.
func (s *Session) secret(issuer Role, seq uint32) *[32]byte {
	c2s, s2c := &s.c2s, &s.s2c
	if k := s.epoch.change; k != nil {
		first := k.remoteFirst
		if issuer == s.role {
			first = k.localFirst
		}
		switch {
		case k.agreed && seq < first:
			c2s, s2c = &k.old.C2S, &k.old.S2C
		case !k.agreed && seq >= first:
			return nil
		}
	}
	if issuer == Server {
		return c2s
	}
	return s2c
}

// sendSecret returns the direction secret of an id of the peer, receiveSecret
// that of an id of ours.
func (s *Session) sendSecret(seq uint32) *[32]byte    { return s.secret(s.role.peer(), seq) }
func (s *Session) receiveSecret(seq uint32) *[32]byte { return s.secret(s.role, seq) }

// usable reports whether a path may move to the id. During a rekey those of the
// new epoch are held until the peer has its secrets; from then on the old ones are
// of no use.
func (s *Session) usable(r *remoteID) bool {
	e := &s.epoch
	return (e.change == nil || (r.Seq >= e.change.remoteFirst) == e.change.confirmed) && (e.heldFrom == 0 || r.Seq < e.heldFrom)
}

// Rekey makes a client begin a new epoch now instead of when it is due. Nothing
// happens while another change is under way. It fails with ErrNotClient, ErrClosed
// or ErrNotConfirmed.
func (s *Session) Rekey(now Time, out *Output) error {
	if err := s.canLead(); err != nil {
		return err
	}
	s.beginRekey(now, out)
	return nil
}

// rekeyDue returns when a client begins the next epoch, if anything calls for it.
func (s *Session) rekeyDue() (Time, bool) {
	e := &s.epoch
	if s.role != Client || s.state != StateOpen || e.change != nil {
		return 0, false
	}
	// Not before the packet that calls for it: after a pause its time would have been
	// long ago, which is what a machine that slept looks like (noticeJump).
	at := max(e.again, s.lastReceived, s.lastSent)
	if s.rid.counter >= rekeyPackets || s.newest.counter >= rekeyPackets {
		return at, true
	}
	return max(e.begun+rekeyAfter, at), s.worn
}

// beginRekey sends REKEY_INIT with the first ids of the new epoch.
func (s *Session) beginRekey(now Time, out *Output) {
	e := &s.epoch
	if e.change != nil {
		return
	}
	e.again = now + rekeyAgain // unless this comes to something
	if len(s.local)+rekeyIDs > maxLive {
		// Probes of ours used them up. A fresh id makes the server follow, and retire
		// those before it.
		if s.rotate() {
			s.ctl.want = true
			s.pushControl(now, out)
		}
		return
	}
	k := &rekey{epoch: e.now + 1, localFirst: s.localTop + 1, remoteFirst: math.MaxUint32}
	var err error
	k.client, err = handshake.NewRekey(s.secrets(), k.epoch, k.localFirst, s.source())
	if err != nil || s.issue(now, rekeyIDs) == 0 {
		return
	}
	k.ours = k.client.Message()
	s.change(now, k)
	s.pushControl(now, out)
}

// change begins a change of epoch. It takes both directions to new ids, so that one
// owed waits for it instead of spending the last one of this epoch.
func (s *Session) change(now Time, k *rekey) {
	s.epoch.change = k
	if o := s.owed; o != nil {
		o.by = max(o.by, now+s.maxOwed())
	}
}

func (s *Session) secrets() handshake.Secrets { return handshake.Secrets{C2S: s.c2s, S2C: s.s2c} }

// rekeyInit answers REKEY_INIT.
func (s *Session) rekeyInit(now Time, f *wire.Frame, out *Output) error {
	e := &s.epoch
	k := e.change
	switch {
	case s.role != Server:
		s.count(WrongSide)
		return nil
	case k != nil && f.Epoch == k.epoch:
		if f.FirstSeq != k.remoteFirst || f.Noise != k.asked {
			return errRekeyDiffers
		}
		if k.confirmed {
			s.count(RekeyLate)
		} else {
			k.acked, s.urgent = false, true // the stored answer
		}
		return nil
	case f.Epoch <= e.now:
		s.count(RekeyLate)
		return nil
	case f.Epoch != e.now+1:
		return errRekeyEpoch
	case f.FirstSeq <= s.usedSeq():
		return errRekeySeq
	case e.heldFrom != 0 && f.FirstSeq != e.heldFrom:
		return errRekeyDiffers
	}
	e.heldFrom = f.FirstSeq
	if k != nil {
		s.count(RekeyEarly)
		return nil
	}
	first := s.localTop + 1
	if s.issue(now, rekeyIDs) == 0 {
		s.count(RekeyEarly)
		return nil
	}
	answer, secrets, err := handshake.AnswerRekey(s.secrets(), f.Epoch, f.FirstSeq, f.Noise, s.source())
	if errors.Is(err, handshake.ErrNotOpened) {
		return errRekeyNoise
	} else if err != nil {
		return nil // no randomness: it is the client's turn to ask again
	}
	s.change(now, &rekey{epoch: f.Epoch, localFirst: first, remoteFirst: f.FirstSeq, ours: answer, asked: f.Noise})
	s.agree(secrets)
	s.urgent = true
	return nil
}

// rekeyResp takes the answer to our REKEY_INIT. It shows that the server has the
// new secrets.
func (s *Session) rekeyResp(now Time, f *wire.Frame, out *Output) error {
	k := s.epoch.change
	switch {
	case s.role != Client:
		s.count(WrongSide)
		return nil
	case f.Epoch <= s.epoch.now:
		s.count(RekeyLate)
		return nil
	case k == nil || f.Epoch != k.epoch:
		s.count(RekeyUnasked)
		return nil
	case f.FirstSeq <= s.usedSeq():
		return errRekeySeq
	}
	secrets, err := k.client.Finish(f.Noise)
	if err != nil {
		return errRekeyNoise
	}
	k.client, k.remoteFirst = nil, f.FirstSeq
	s.agree(secrets)
	s.confirmRekey(now, out)
	return nil
}

// usedSeq is the highest seq of the peer that we have sealed anything on.
func (s *Session) usedSeq() (top uint32) {
	for _, r := range s.remote {
		if r == s.rid || r.counter > 0 {
			top = max(top, r.Seq)
		}
	}
	return top
}

// agree puts the new secrets beside the old ones.
func (s *Session) agree(secrets handshake.Secrets) {
	k := s.epoch.change
	k.old, k.agreed = s.secrets(), true
	s.c2s, s.s2c = secrets.C2S, secrets.S2C
	s.epoch.now, s.epoch.heldFrom = k.epoch, 0
}

// confirmRekey notes that the peer has the new secrets.
func (s *Session) confirmRekey(now Time, out *Output) {
	k := s.epoch.change
	k.confirmed, k.confirmedAt, k.acked = true, now, true
	s.epoch.begun, s.worn = now, false
	out.event(Event{Kind: EventRekeyed, Path: s.path})
}

// heardEpoch notes an authentic packet on an id of ours: on one of the new epoch
// it shows a server that the client has the secrets.
func (s *Session) heardEpoch(now Time, in *localID, out *Output) {
	if k := s.epoch.change; k != nil && k.agreed && !k.confirmed && in.Seq >= k.localFirst {
		s.confirmRekey(now, out)
	}
}

// followRekey moves our sending to an id of the new epoch, once both ends have it
// and the peer's NEW_ID has come. The client's next packet, at the latest the PONG
// that the server asks for until it comes, shows the server that it may do so too.
// While another path is being validated the new ids are for that one: on the current
// path a higher id than there would have to go along in the switch.
func (s *Session) followRekey() {
	k := s.epoch.change
	if k != nil && k.confirmed && len(s.candidates) == 0 && s.state == StateOpen && s.rid.Seq < k.remoteFirst {
		s.rotate()
	}
}

// rekeyDeadline is when tickRekey has something to do.
func (s *Session) rekeyDeadline() (Time, bool) {
	k := s.epoch.change
	switch {
	case k == nil:
		return s.rekeyDue()
	case !k.agreed:
		return k.again, k.acked
	case !k.confirmed:
		return 0, false
	case k.cleared:
		return min(k.confirmedAt+maxOldAge, k.clearedAt+3*s.rtt.pto()), true
	}
	return k.confirmedAt + maxOldAge, true
}

// tickRekey begins an epoch, asks again, and wipes the old secrets.
func (s *Session) tickRekey(now Time, out *Output) {
	k := s.epoch.change
	if k != nil && k.confirmed && !k.cleared && s.oldIDsGone() {
		k.cleared, k.clearedAt = true, now
	}
	at, ok := s.rekeyDeadline()
	switch {
	case !ok || now < at:
	case k == nil:
		s.beginRekey(now, out)
	case !k.agreed:
		k.acked = false
		s.pushControl(now, out)
	default:
		s.wipe(now, out)
	}
}

// oldIDsGone reports whether no id of the old epoch is left on either side.
func (s *Session) oldIDsGone() bool {
	k := s.epoch.change
	s.forgetRemote()
	return s.local[0].Seq >= k.localFirst && s.remote[0].Seq >= k.remoteFirst
}

// wipe forgets the old epoch. Ids of it that are still there go with it.
func (s *Session) wipe(now Time, out *Output) {
	k := s.epoch.change
	if s.rid.Seq < k.remoteFirst {
		s.rotate() // a validation was under way all the time
	}
	if top := s.remote[len(s.remote)-1]; s.rid.Seq < k.remoteFirst && top.Seq >= k.remoteFirst {
		s.rid, top.taken = top, true // in use elsewhere, but better than none
	} else if s.rid.Seq < k.remoteFirst {
		// The peer agreed on an epoch and issued no id for it.
		s.Close(now, wire.CloseLimit, "the last id is used up: the peer issued none for its new keys", out)
		return
	}
	heard := s.newest.seq >= k.localFirst
	s.retire(func(l *localID) bool { return l.Seq < k.localFirst })
	s.replaceOld(k.remoteFirst)
	s.epoch.change = nil
	k.old = handshake.Secrets{}
	if !heard && s.role == Client {
		// Whatever the server sends on old ids is lost. It must hear of the new ones.
		s.ctl.want = true
		s.pushControl(now, out)
	}
}

// replaceOld puts paths that are still on an id below first on the current one.
func (s *Session) replaceOld(first uint32) {
	swap := func(rid **remoteID) {
		if (*rid).Seq < first {
			*rid = s.rid
		}
	}
	for i := range s.candidates {
		swap(&s.candidates[i].rid)
	}
	for i := range s.departures {
		swap(&s.departures[i].rid)
	}
	for i := range s.leftPaths() {
		swap(&s.finder.left[i].rid)
	}
	if s.race != nil {
		for i := range s.race.runners {
			swap(&s.race.runners[i].rid)
		}
	}
	if s.localMove != nil {
		swap(&s.localMove.rid)
	}
	s.remote = slices.DeleteFunc(s.remote, func(r *remoteID) bool { return r.Seq < first })
	s.forgetRemote()
}
