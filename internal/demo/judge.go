// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Bounds of what is expected.
const (
	// promptly bounds the time to the first byte on a new path, and to its commit. A
	// move takes some milliseconds. The rest is for the kernel: it asks again after a
	// second where its question for a neighbour's address was lost, and changes no link
	// while it makes or removes others, in whichever namespace.
	promptly = 5 * time.Second
	// undisturbed bounds the 90th percentile of the round trip under a flood. Half a
	// millisecond is usual. The rest, and that it is not the 99th, is for machines
	// with few and busy processors: all of the lab shares them, so that one pause of
	// the scheduler delays many datagrams.
	undisturbed = 250 * time.Millisecond
	// repeated is after how long a client sends an INIT again that was not answered.
	repeated = time.Second
	// most of a flood must have met its counter: a veth ring may overflow.
	most = 0.98
)

// judge writes the expectations and whether they held.
func (r *Report) judge() {
	r.Expectations = nil
	r.judgeSession()
	budget := r.overtaken()
	r.judgeMoves(&budget)
	r.judgeDatagrams(&budget)
	r.judgeAttacks()
	r.judgeEnd()
	r.Passed = r.Failed() == 0
}

func (r *Report) expect(text string, ok bool, detail string, args ...any) {
	r.Expectations = append(r.Expectations, Expectation{text, ok, fmt.Sprintf(detail, args...)})
}

func (r *Report) judgeSession() {
	r.expect("XDP runs natively on the edge's veth", r.XDP == "native", "the kernel says: %s", orNone(r.XDP))
	accepted := count(r.Counters, stageServer, "resp_accepted")
	r.expect("one session, opened by one handshake, for the whole run",
		len(r.Sessions) == 1 && r.Sessions[0].ID == r.SessionID && accepted == 1 &&
			(r.Inits == 2 || r.Inits > 2 && r.Handshake >= repeated),
		"%d session, %s; %d accepted handshake, %d INITs sent (without and with the cookie)", len(r.Sessions), r.SessionID, accepted, r.Inits)
	if len(r.Sessions) == 1 {
		moves := r.Sessions[0].Moves
		r.expect("the edge committed every move and no other", moves == uint64(len(r.Moves)), "%d of %d", moves, len(r.Moves))
	}
	var strange []string
	for _, p := range r.Paths {
		if !slices.Contains(r.Allowed, p.Addr()) {
			strange = append(strange, p.String())
		}
	}
	r.expect("the attacker never moved the path", len(strange) == 0 && len(r.Paths) > 0,
		"validated addresses: %s", joinAddrs(r.Paths))
}

// A copy of the client's packet that reaches the edge before the packet itself is the
// newest of the session, from elsewhere: until the client's next packet, answers go
// there, as far as three times its bytes go beside a CHALLENGE. The edge refuses each
// such move, and counts it.
const answersOvertaken = 2

// overtaken are the answers that copies of the attacker's can have cost.
func (r *Report) overtaken() int {
	return answersOvertaken * int(count(r.Counters, stageServer, "roams_refused"))
}

// excuse is how many of an account's losses overtaken answers explain, of a budget
// that all accounts share.
func excuse(budget *int, lost int) int {
	n := max(min(*budget, lost), 0)
	*budget -= n
	return n
}

func (r *Report) judgeMoves(budget *int) {
	for _, m := range r.Moves {
		r.expect(m.Name+": prompt", 0 < m.FirstByte && m.FirstByte <= promptly && 0 < m.Commit && m.Commit <= promptly,
			"first byte after %s, committed after %s, limit %s", round(m.FirstByte), round(m.Commit), promptly)
		lost := m.Account.Lost()
		if m.Seamless {
			excused := excuse(budget, m.Account.LostDown)
			r.expect(m.Name+": no datagram lost", lost == excused, "%d of %d%s", lost, m.Account.Sent, overtook(excused))
			continue
		}
		excused := 0
		if over := lost - m.Excused; over > 0 {
			excused = excuse(budget, min(over, m.Account.LostDown))
		}
		r.expect(m.Name+": lost only what was on its way or sent while no path worked", lost == m.Excused+excused,
			"%d of %d lost, %d of them then, outage %s%s", lost, m.Account.Sent, m.Excused, round(m.Outage), overtook(excused))
	}
}

// overtook explains excused losses.
func overtook(excused int) string {
	if excused == 0 {
		return ""
	}
	return fmt.Sprintf("; %d answered to a copy of the attacker's that overtook the client's packet", excused)
}

func (r *Report) judgeDatagrams(budget *int) {
	for _, s := range r.Spans {
		excused := excuse(budget, s.Account.LostDown)
		ok, detail := s.Account.Lost() == excused && s.Account.Sent > 0, fmt.Sprintf("%d of %d lost%s", s.Account.Lost(), s.Account.Sent, overtook(excused))
		text := s.Name + ": no datagram lost"
		if s.Flood {
			text += ", answers prompt"
			ok = ok && s.Account.RTT90 <= undisturbed
			detail += fmt.Sprintf(", 90%% of the answers within %s, limit %s", round(s.Account.RTT90), undisturbed)
		}
		r.expect(text, ok, "%s", detail)
	}
	r.expect("no datagram delivered twice, at either end", r.Whole.Duplicates == 0, "%d of %d", r.Whole.Duplicates, r.Whole.Sent)
	r.expect("no datagram of the attacker reached the service", r.Strangers == 0, "%d", r.Strangers)
	refused := 0
	for _, n := range r.Refused {
		refused += n
	}
	r.expect("the session took every datagram", refused == 0, "%d refused %s", refused, joinCounts(r.Refused))
}

func (r *Report) judgeAttacks() {
	for _, a := range r.Attacks {
		ok := a.Sent > 0
		if a.campaign.stop == nil {
			ok = ok && r.Whole.Duplicates == 0
		} else {
			ok = ok && float64(a.stopped()) >= most*float64(a.Sent)
		}
		if a.campaign.answers == nil {
			ok = ok && a.Answers == 0
		} else {
			ok = ok && a.campaign.answers(a)
		}
		r.expect(a.Name+": "+a.campaign.must, ok, "%d sent: %s", a.Sent, a.Fate)
	}
	var seen uint64
	for _, c := range r.Counters {
		if c.Stage == stageServer && slices.Contains(initReasons, c.Reason) {
			seen += c.Value
		}
	}
	// The client's first has no cookie.
	r.expect("userspace saw no INIT but the client's", 0 < seen && seen < uint64(r.Inits), "%d", seen)
}

// initReasons are all that can become of an INIT in userspace.
var initReasons = []string{
	"resp_accepted", "resp_refused", "resp_repeated", "retry", "versions",
	"init_malformed", "mac1", "version_limit", "init_pending", "init_conflict", "init_not_opened",
	"prefix_limit", "half_open_limit", "handshake_busy", "handshake_failed",
}

func (r *Report) judgeEnd() {
	r.expect("the edge took its XDP program and pins away", len(r.Left) == 0, "left: %s", orNone(strings.Join(r.Left, ", ")))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func joinAddrs(all []netip.AddrPort) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// Failed is how many expectations did not hold.
func (r *Report) Failed() int {
	failed := 0
	for _, e := range r.Expectations {
		if !e.OK {
			failed++
		}
	}
	return failed
}
