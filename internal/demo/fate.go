// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Stages of counters.
const (
	stageXDP    = "xdp"
	stageSocket = "socket"
	stageServer = "server"
)

// campaign is the attacks that are judged as one, since they move the same
// counters.
type campaign struct {
	name  string
	what  string
	parts []string            // the attacks
	stop  map[string][]string // the reasons, at each stage, that end their packets; none: not the edge's to stop
	must  string              // what is expected of it
	// answers says which answers to the attacker's own address are in order; nil: none at all.
	answers func(Attack) bool
}

var campaigns = []campaign{
	{
		name: "client's id", parts: []string{AttackReplay, AttackForge, AttackForgeSpoof, AttackForgeFlood},
		what: "captured packets sent again from the attacker's address, and invented ones from there and under the client's own",
		stop: map[string][]string{
			stageXDP:    {"candidate_limit", "reset_limit"},
			stageServer: {"auth_failed", "replay_duplicate", "replay_old", "unknown_id", "id_gone", "reset", "reset_limit", "after_close"},
		},
		must:    "dropped, answered by no more than a reset",
		answers: answersInOrder,
	},
	{
		name: "replays to the client", parts: []string{AttackReplayDown},
		what: "captured packets of the edge, sent again under the edge's address",
		must: "delivered to nobody",
	},
	{
		name: "random ids", parts: []string{AttackRandomIDs},
		what: "invented ids from invented addresses",
		stop: map[string][]string{stageXDP: {"id_forged"}},
		must: "dropped in XDP",
	},
	{
		name: "spoofed INITs", parts: []string{AttackInits},
		what: "INITs with a good mac1 from invented addresses",
		stop: map[string][]string{stageXDP: {"retry"}},
		must: "answered by RETRY in XDP",
	},
	{
		name: "blind INITs", parts: []string{AttackBlindInits},
		what: "INITs of somebody who does not know the server's key",
		stop: map[string][]string{stageXDP: {"mac1"}},
		must: "dropped in XDP",
	},
	{
		name: "replayed INITs", parts: []string{AttackReplayInit, AttackReplayInitSpoof},
		what:    "the client's INIT with its cookie, from the attacker's address and, when the cookie has expired, under the client's",
		stop:    map[string][]string{stageXDP: {"retry"}},
		must:    "answered by no more than RETRY in XDP",
		answers: func(a Attack) bool { return a.Answers <= a.Sent && a.AnswerBytes*10 <= a.SentBytes },
	},
}

// answersInOrder allows what is in order. A packet under an id that the session
// has shed meets a stateless reset, shorter than the packet, whoever sent it:
// nobody can tell whether the peer still needs to hear it. And a replay that
// overtakes its original, or whose original is lost, is the newest packet of the
// session and earns a CHALLENGE, which the attacker cannot answer.
func answersInOrder(a Attack) bool {
	resets := uint64(0)
	for _, c := range a.Stopped {
		if c.Stage == stageServer && c.Reason == "reset" {
			resets += c.Value
		}
	}
	var forgeries, replays, races uint64
	for _, v := range a.Volleys {
		if v.AnswerBytes > v.SentBytes {
			return false
		}
		if v.Attack == AttackReplay {
			replays, races = replays+v.Answers, races+v.Sent/50
		} else {
			forgeries += v.Answers
		}
	}
	return forgeries <= resets && forgeries+replays <= resets+races
}

// newAttack joins what the attacker did to the counters that grew meanwhile.
func newAttack(c campaign, volleys []Volley, grown []control.Counter) Attack {
	a := Attack{Name: c.name, What: c.what, Volleys: volleys, Stopped: []control.Counter{}, campaign: c}
	for _, v := range volleys {
		a.Sent += v.Sent
		a.SentBytes += v.SentBytes
		a.Answers += v.Answers
		a.AnswerBytes += v.AnswerBytes
	}
	for _, counter := range grown {
		if slices.Contains(c.stop[counter.Stage], counter.Reason) {
			a.Stopped = append(a.Stopped, counter)
		}
	}
	a.Fate = a.fate()
	return a
}

// stopped is how many packets met one of the counters.
func (a Attack) stopped() uint64 {
	var sum uint64
	for _, c := range a.Stopped {
		sum += c.Value
	}
	return sum
}

func (a Attack) fate() string {
	var words []string
	for _, c := range a.Stopped {
		words = append(words, fmt.Sprintf("%d %s %s (%s)", c.Value, verbs[c.Verdict], places[c.Stage], c.Reason))
	}
	switch {
	case a.campaign.stop == nil:
		words = append(words, "not for the edge: the client's session drops them")
	case len(words) == 0:
		words = append(words, "stopped by nothing")
	}
	if a.Answers > 0 {
		words = append(words, fmt.Sprintf("%d answers to the attacker, %d bytes for %d", a.Answers, a.AnswerBytes, a.SentBytes))
	}
	return strings.Join(words, ", ")
}

var (
	verbs  = map[string]string{"drop": "dropped", "tx": "answered", "answer": "answered"}
	places = map[string]string{stageXDP: "in XDP", stageSocket: "at the socket", stageServer: "by the session"}
)
