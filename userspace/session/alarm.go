// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// alarm is the last forwarding alarm.
type alarm struct {
	next   Time // no other one before
	open   bool // the challenge may still be answered
	path   Path // that was challenged
	cookie wire.Cookie
}

// duplicate acts on an authentic packet that was received before. The network
// makes duplicates, but one from another address means that somebody forwards or
// replays our packets: raise the alarm and ask the current path, and only that,
// whether it still lives. Its source gets nothing.
func (s *Session) duplicate(now Time, from Path, out *Output) {
	if s.state != StateOpen || from.Same(s.path) || s.findLeft(from) != nil {
		return
	}
	if s.alarm != nil && now < s.alarm.next {
		return
	}
	s.count(Forwarded)
	out.event(Event{Kind: EventForwardingAlarm, Path: from, From: s.path})
	s.alarm = &alarm{next: now + s.rtt.pto(), open: true, path: s.path, cookie: s.randomCookie(out)}
	s.sendChallenge(now, out, s.path, s.rid, s.alarm.cookie)
}
