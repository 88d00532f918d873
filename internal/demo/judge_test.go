// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// good is a report in which everything held.
func good() *Report {
	account := Account{Sent: 1000, RTT50: 300 * time.Microsecond, RTT99: time.Millisecond}
	move := func(name string, seamless bool) Move {
		return Move{Name: name, From: client4, To: client6, FirstByte: 20 * time.Millisecond, FirstAnswer: 21 * time.Millisecond,
			Commit: 22 * time.Millisecond, Account: account, Seamless: seamless}
	}
	r := &Report{
		Kernel: "6.1", XDP: "native", Rate: 500, Inits: 2, Whole: account,
		SessionID: wire.ID{1}, Sessions: []control.Session{{ID: wire.ID{1}, Moves: 2}}, SessionList: "ID\nabc\n",
		Paths:   []netip.AddrPort{client4, client6, client4},
		Allowed: []netip.Addr{client4.Addr(), client6.Addr()},
		Moves:   []Move{move("A -> B", true), move("B -> IPv6", false)},
		Spans:   []Span{{Name: "quiet", Account: account}, {Name: "flood", Flood: true, Account: account}},
		Counters: []control.Counter{
			{Stage: stageServer, Verdict: "answer", Reason: "resp_accepted", Value: 1},
			{Stage: stageXDP, Verdict: "drop", Reason: "id_forged", Value: 1000},
			{Stage: stageXDP, Verdict: "tx", Reason: "retry", Value: 501},
			{Stage: stageServer, Verdict: "drop", Reason: "auth_failed", Value: 300},
		},
	}
	for _, v := range []Volley{
		{Attack: AttackRandomIDs, Sent: 1000}, {Attack: AttackInits, Sent: 500}, {Attack: AttackReplay, Sent: 300},
	} {
		for _, c := range campaigns {
			if c.parts[0] == v.Attack {
				r.Attacks = append(r.Attacks, newAttack(c, []Volley{v}, r.Counters))
			}
		}
	}
	return r
}

func (r *Report) attack(name string) *Attack {
	return &r.Attacks[slices.IndexFunc(r.Attacks, func(a Attack) bool { return a.Name == name })]
}

// Packets on an id whose session is gone end there, whether a reset answers them or not.
func TestGoneIDsAreStopped(t *testing.T) {
	var grown []control.Counter
	for _, reason := range []string{"id_gone", "reset", "reset_limit"} {
		grown = append(grown, control.Counter{Stage: stageServer, Verdict: "drop", Reason: reason, Value: 1})
	}
	if a := newAttack(campaigns[0], []Volley{{Attack: AttackReplay, Sent: 3}}, grown); a.stopped() != 3 {
		t.Errorf("stopped: %+v", a.Stopped)
	}
}

// A copy that overtook the client's packet costs two answers at most, once.
func TestOvertakenAnswers(t *testing.T) {
	overtaken := func() *Report {
		r := good()
		r.Counters = append(r.Counters, control.Counter{Stage: stageServer, Verdict: "event", Reason: "roams_refused", Value: 1})
		return r
	}
	for name, c := range map[string]struct {
		spoil func(*Report)
		fails int
	}{
		"one answer":          {func(r *Report) { r.Spans[0].Account.LostDown = 1 }, 0},
		"in two spans":        {func(r *Report) { r.Spans[0].Account.LostDown, r.Spans[1].Account.LostDown = 1, 1 }, 0},
		"beside a move's":     {func(r *Report) { r.Moves[1].Account.LostDown, r.Moves[1].Excused = 3, 2 }, 0},
		"in a move":           {func(r *Report) { r.Moves[0].Account.LostDown = 2 }, 0},
		"three answers":       {func(r *Report) { r.Spans[0].Account.LostDown = 3 }, 1},
		"three in two spans":  {func(r *Report) { r.Spans[0].Account.LostDown, r.Spans[1].Account.LostDown = 2, 1 }, 1},
		"on the way there":    {func(r *Report) { r.Spans[0].Account.LostUp = 1 }, 1},
		"fewer than excused":  {func(r *Report) { r.Moves[1].Account.LostDown, r.Moves[1].Excused = 1, 2 }, 1},
		"on a move's way out": {func(r *Report) { r.Moves[1].Account.LostUp, r.Moves[1].Excused = 3, 2 }, 1},
	} {
		r := overtaken()
		c.spoil(r)
		if r.judge(); r.Failed() != c.fails {
			t.Errorf("%s: %+v", name, r.Expectations)
		}
	}
}

func TestJudge(t *testing.T) {
	r := good()
	r.judge()
	if !r.Passed || r.Failed() != 0 {
		t.Fatalf("a good run failed: %+v", r.Expectations)
	}
	for name, c := range map[string]struct {
		spoil func(*Report)
		fails string // what the failing expectation says
	}{
		"generic XDP":         {func(r *Report) { r.XDP = "generic" }, "XDP runs natively"},
		"a second handshake":  {func(r *Report) { r.Counters[0].Value = 2 }, "one handshake"},
		"another session":     {func(r *Report) { r.Sessions[0].ID = wire.ID{2} }, "one session"},
		"a repeated INIT":     {func(r *Report) { r.Inits = 3 }, "one handshake"},
		"a move too many":     {func(r *Report) { r.Sessions[0].Moves = 3 }, "every move and no other"},
		"the attacker's path": {func(r *Report) { r.Paths = append(r.Paths, server4) }, "never moved the path"},
		"no path seen":        {func(r *Report) { r.Paths = nil }, "never moved the path"},
		"a slow move":         {func(r *Report) { r.Moves[0].FirstByte = 6 * time.Second }, "A -> B: prompt"},
		"no commit":           {func(r *Report) { r.Moves[1].Commit = 0 }, "B -> IPv6: prompt"},
		"loss while prepared": {func(r *Report) { r.Moves[0].Account.LostUp = 1 }, "A -> B: no datagram lost"},
		"loss without excuse": {func(r *Report) { r.Moves[1].Account.LostDown, r.Moves[1].Excused = 3, 2 }, "lost only what"},
		"loss while quiet":    {func(r *Report) { r.Spans[0].Account.LostUp = 1 }, "quiet: no datagram lost"},
		"nothing sent":        {func(r *Report) { r.Spans[0].Account.Sent = 0 }, "quiet: no datagram lost"},
		"slow under a flood":  {func(r *Report) { r.Spans[1].Account.RTT90 = time.Second }, "flood: no datagram lost"},
		"a duplicate":         {func(r *Report) { r.Whole.Duplicates = 1 }, "delivered twice"},
		"a stranger":          {func(r *Report) { r.Strangers = 1 }, "of the attacker reached"},
		"a refused datagram":  {func(r *Report) { r.Refused = map[string]int{"closed": 1} }, "took every datagram"},
		"forgeries not met":   {func(r *Report) { r.attack("random ids").Stopped[0].Value = 900 }, "random ids: dropped in XDP"},
		"no attack at all":    {func(r *Report) { r.attack("spoofed INITs").Sent = 0 }, "spoofed INITs: answered by RETRY"},
		"an answer to a forger": {func(r *Report) {
			r.attack("client's id").Volleys[0] = Volley{Attack: AttackForge, Sent: 300, Answers: 1}
		}, "client's id: dropped, answered"},
		"many answers to replays":   {func(r *Report) { r.attack("client's id").Volleys[0].Answers = 30 }, "client's id: dropped, answered"},
		"more bytes than were sent": {func(r *Report) { r.attack("client's id").Volleys[0].AnswerBytes = 1 }, "client's id: dropped, answered"},
		"an INIT in userspace": {func(r *Report) {
			r.Counters = append(r.Counters, control.Counter{Stage: stageServer, Reason: "init_not_opened", Value: 1})
		}, "userspace saw no INIT"},
		"a pin left": {func(r *Report) { r.Left = []string{"/sys/fs/bpf/x"} }, "pins away"},
	} {
		r := good()
		c.spoil(r)
		r.judge()
		var failed []string
		for _, e := range r.Expectations {
			if !e.OK {
				failed = append(failed, e.Text)
			}
		}
		if r.Passed || !strings.Contains(strings.Join(failed, "; "), c.fails) {
			t.Errorf("%s: failed %q, want one that says %q", name, failed, c.fails)
		}
	}
}

// A handshake that was not answered within a second is begun again, as it should be.
func TestRepeatedInitIsNoFailure(t *testing.T) {
	r := good()
	r.Inits, r.Handshake = 3, 1100*time.Millisecond
	r.judge()
	if !r.Passed {
		t.Errorf("failed: %+v", r.Expectations)
	}
}

func TestExcusedLossIsNoFailure(t *testing.T) {
	r := good()
	r.Moves[1].Account.LostUp, r.Moves[1].Excused = 125, 125
	r.Moves[1].Account.LostNumbers = []uint64{7, 8, 9, 11}
	r.judge()
	if !r.Passed {
		t.Errorf("failed: %+v", r.Expectations)
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"125 (125 to, 0 from the service)", "7-9, 11", "ok ", "1000 dropped in XDP (id_forged)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}

func TestSince(t *testing.T) {
	before := []control.Counter{{Stage: "xdp", Verdict: "drop", Reason: "mac1", Value: 5}, {Stage: "server", Reason: "mac1", Value: 1}}
	after := []control.Counter{{Stage: "xdp", Verdict: "drop", Reason: "mac1", Value: 9}, {Stage: "server", Reason: "mac1", Value: 1},
		{Stage: "xdp", Verdict: "pass", Reason: "main", Value: 3}}
	grown := since(before, after)
	if len(grown) != 2 || grown[0].Value != 4 || grown[1].Value != 3 {
		t.Errorf("%+v", grown)
	}
	if n := count(grown, stageXDP, "mac1", "main"); n != 7 {
		t.Errorf("counted %d", n)
	}
}
