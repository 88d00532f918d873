// SPDX-License-Identifier: Apache-2.0

package session

// duplicate acts on an authentic packet that was received before. The network
// makes duplicates, but one from another address means that somebody forwards or
// replays our packets: raise the alarm and ask the current path, and only that,
// whether it still lives. Its source gets nothing.
func (s *Session) duplicate(now Time, from Path, out *Output) {
	if s.state != StateOpen || from.Same(s.path) || s.findLeft(from) != nil {
		return
	}
	if s.alarmed && now < s.alarmNext {
		return
	}
	s.alarmed, s.alarmNext = true, now+s.rtt.pto()
	s.alarms++
	out.event(Event{Kind: EventForwardingAlarm, Path: from, From: s.path})
	s.alarmOpen, s.alarmPath, s.alarmCookie = true, s.path, s.randomCookie()
	s.sendChallenge(now, out, s.path, s.rid, s.alarmCookie)
}
