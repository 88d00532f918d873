// SPDX-License-Identifier: Apache-2.0

package session

import (
	"golang.zx2c4.com/wireguard/replay"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// replayWindow is the least number of counters that the replay filter holds, and
	// wideWindow that of a wide one, whose stripes may differ by a round.
	replayWindow = 8128
	wideWindow   = stripes*(replayWindow-stripe) - stripe

	stripes = 4
	stripe  = 64
	// busy is how many packets an id has carried whose window a move widens. What has
	// carried fewer loses none, and 4 KiB for every quiet session on the move were too much.
	busy = 2048
)

// receiving is what it takes to open packets on an id. It is made at the first
// packet and given back in a pause: it is all but the size of a session's rest.
type receiving struct {
	key    idKey
	window replay.Filter
	wide   *wide // since the peer moved on this id, if it did: see accept
}

// wide is a replay filter of several: each holds every fourth run of 64 counters.
type wide struct {
	from    uint32 // the counters before are still the narrow filter's
	filters [stripes]replay.Filter
}

func (w *wide) validate(counter uint64) bool {
	run, at := counter/stripe, counter%stripe
	return w.filters[run%stripes].ValidateCounter(run/stripes*stripe+at, wire.MaxCounter)
}

// accept marks the counter of a packet that has just been opened as received; away says
// that it did not come from the session's path. It returns Delivered, ReplayDuplicate or
// ReplayOld.
//
// At a move packets of one id reach us by several sockets, those of the old path, of
// candidates and of the new one, and at full rate thousands wait in one of them while
// those of another go by: more than the filter holds. So it is widened then.
func (l *localID) accept(counter uint64, away bool) Reason {
	if counter < uint64(l.floor) {
		return ReplayOld
	}
	if away && counter > busy && counter >= uint64(l.next) && l.use.wide == nil {
		l.use.wide = &wide{from: l.next}
	}
	var is bool
	end, held := l.next, uint64(replayWindow)
	switch w := l.use.wide; {
	case w == nil:
		is = l.use.window.ValidateCounter(counter, wire.MaxCounter)
	case counter < uint64(w.from):
		is, end = l.use.window.ValidateCounter(counter, wire.MaxCounter), w.from
	default:
		is, held = w.validate(counter), wideWindow
	}
	switch {
	case is:
		l.next = max(l.next, uint32(counter)+1)
		return Delivered
	case counter+held+1 < uint64(end):
		return ReplayOld
	}
	return ReplayDuplicate
}

// rest gives the memory of an id back that has been silent for a while: a window
// is a kilobyte or four. Every counter up to the highest then counts as received, which
// refuses replays as before, and packets that were under way for so long.
func (l *localID) rest() {
	publish(&l.use, nil)
	l.floor = l.next
}
