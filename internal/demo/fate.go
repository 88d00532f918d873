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

// wardens says of each attack in which words it is told, and which counters
// stop it: the reasons at each stage.
var wardens = map[string]struct {
	what string
	stop map[string][]string
}{
	AttackReplay: {"captured packets of the client, sent again from the attacker's address", map[string][]string{
		stageXDP: {"candidate_limit", "reset_limit"}, stageServer: {"replay_duplicate", "replay_old", "unknown_id", "id_gone", "after_close"}}},
	AttackReplayDown: {"captured packets of the edge, sent again to the client under the edge's address", nil},
	AttackForge: {"the client's id with invented contents, from the attacker's address", map[string][]string{
		stageXDP: {"candidate_limit"}, stageServer: {"auth_failed"}}},
	AttackForgeSpoof: {"the same under the client's own address", map[string][]string{
		stageServer: {"auth_failed"}}},
	AttackForgeFlood: {"a flood of those from the attacker's address", map[string][]string{
		stageXDP: {"candidate_limit"}, stageServer: {"auth_failed"}}},
	AttackRandomIDs: {"invented ids from invented addresses", map[string][]string{
		stageXDP: {"id_forged"}}},
	AttackInits: {"INITs with a good mac1 from invented addresses", map[string][]string{
		stageXDP: {"retry", "retry_failed"}}},
	AttackBlindInits: {"INITs of somebody who does not know the server's key", map[string][]string{
		stageXDP: {"mac1"}}},
	AttackReplayInit: {"the client's INIT with its cookie, from the attacker's address", map[string][]string{
		stageXDP: {"retry", "retry_failed"}}},
	AttackReplayInitSpoof: {"the client's INIT under the client's first address, cookie expired", map[string][]string{
		stageXDP: {"retry", "retry_failed"}}},
}

// newAttack joins what the attacker did to the counters that grew meanwhile.
// Attacks at the same time can share a counter.
func newAttack(v Volley, grown []control.Counter) Attack {
	a := Attack{Volley: v, What: wardens[v.Attack].what, Stopped: []control.Counter{}}
	for _, c := range grown {
		if slices.Contains(wardens[v.Attack].stop[c.Stage], c.Reason) {
			a.Stopped = append(a.Stopped, c)
		}
	}
	a.Fate = a.fate()
	return a
}

func (a Attack) fate() string {
	var words []string
	for _, c := range a.Stopped {
		words = append(words, fmt.Sprintf("%d %s %s (%s)", c.Value, verbs[c.Verdict], places[c.Stage], c.Reason))
	}
	switch {
	case a.Attack == AttackReplayDown:
		words = append(words, "the client's session delivers none: see duplicates")
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
