// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Metrics of the default routes: B is better than A, so that joining B moves
// the client while A still works.
const (
	metricA = 100
	metricB = 50
	metric6 = 100
)

const (
	// overlap is how long both networks work at a move that is prepared.
	overlap = time.Second
	// gap is how long no network works at a move that is not.
	gap = 250 * time.Millisecond
	// cookieLife is longer than a cookie is valid, counted from the start of the run.
	cookieLife = 14 * time.Second
	// inFlight is the age up to which a datagram may still be on its way, on a machine
	// whose processors have other things to do.
	inFlight = 250 * time.Millisecond
)

// Rates of attacks, in packets each second: those that last the whole time, and
// the floods. Above, the veth pairs and not the server become the bottleneck.
const (
	dripRate  = 100
	floodRate = 10000
)

// stretch is a part of the run's time, accounted for at the end, when every
// answer had time to come.
type stretch struct{ from, until Instant }

// play is the scenario.
func (d *director) play() error {
	s := &scenario{director: d, windows: map[string][]control.Counter{}}
	for _, act := range []func() error{
		s.quiet, s.drip, s.rebind, s.floodForged,
		s.toB, s.floodIDs,
		s.toSix, s.floodInits,
		s.backToA, s.replayInit,
		s.finish,
	} {
		if err := act(); err != nil {
			return err
		}
	}
	return nil
}

// scenario is what play remembers from act to act.
type scenario struct {
	*director
	at       netip.AddrPort               // where the edge sees the client
	baseline []control.Counter            // before the attacks
	windows  map[string][]control.Counter // of each attack that had its own time: what grew then

	spans   []stretch // of report.Spans
	moves   []stretch // of report.Moves
	excuses []stretch // of report.Moves: when a datagram may be lost
}

// quiet measures the stream before anything happens.
func (s *scenario) quiet() error {
	// The edge confirms a session by its first packet, a moment after the client has it.
	err := s.until("the session at the edge", patience, func() (bool, error) {
		sessions, err := s.control.Sessions(s.context, control.SessionQuery{})
		if err != nil || len(sessions) == 0 {
			return false, err
		}
		s.report.SessionID = sessions[0].ID
		s.at = sessions[0].Remote
		return true, nil
	})
	if err != nil {
		return err
	}
	s.step("session open in %s; streaming %d datagrams/s through the edge to the UDP service and back", round(s.report.Handshake), s.config.Rate)
	from := now()
	if err := s.sleep(s.config.Pause); err != nil {
		return err
	}
	s.span("network A, nobody attacks", false, from)
	return nil
}

// drip starts the attacks that go on until the end, moves included.
func (s *scenario) drip() error {
	s.step("attacker: replays and forgeries from now on, %d/s of each sort, moves included", dripRate)
	var err error
	if s.baseline, err = s.control.Counters(s.context); err != nil {
		return err
	}
	for _, name := range []string{AttackReplay, AttackReplayDown, AttackForge, AttackForgeSpoof} {
		if err := s.attacker.tell(Order{Attack: name, Rate: dripRate}); err != nil {
			return err
		}
	}
	from := now()
	if err := s.sleep(s.config.Pause / 2); err != nil {
		return err
	}
	s.span("network A, replays and forgeries", false, from)
	return nil
}

func (s *scenario) rebind() error {
	s.step("the NAT of network A reboots: the client keeps still, its public port changes")
	from := now()
	changes := s.net.A.NAT.Rebind()
	if !slices.ContainsFunc(changes, func(r lab.Rebinding) bool { return r.Old == s.at }) {
		return fmt.Errorf("the NAT had no mapping for the client at %s: %v", s.at, changes)
	}
	return s.follow(s.net.A, Move{
		Name: "NAT rebinding", How: "the NAT gives the client another port, the old one is dead at once",
	}, from, from)
}

func (s *scenario) toB() error {
	s.step("moving A -> B: network B comes up with the better route, A stays %v longer", overlap)
	if err := s.net.B.Attach(); err != nil {
		return err
	}
	from := now()
	if err := s.net.B.Client.AddRoute(s.net.B.Route(metricB)); err != nil {
		return err
	}
	err := s.follow(s.net.B, Move{Name: "A -> B", How: "make before break: both networks work meanwhile", Seamless: true}, from, from)
	if err != nil {
		return err
	}
	return s.net.A.Leave()
}

func (s *scenario) toSix() error {
	s.step("moving B -> IPv6: IPv6 is there, B is cut off without a warning")
	if err := s.net.Six.Join(metric6); err != nil {
		return err
	}
	if err := s.sleep(overlap / 2); err != nil {
		return err
	}
	from := now()
	if err := s.net.B.Leave(); err != nil {
		return err
	}
	return s.follow(s.net.Six, Move{Name: "B -> IPv6", How: "B is cut off without a warning, IPv6 is there already"}, from, from)
}

func (s *scenario) backToA() error {
	s.step("moving IPv6 -> A: IPv6 is cut off, %v without any network, then A comes back", gap)
	broken := now()
	if err := s.net.Six.Leave(); err != nil {
		return err
	}
	if err := s.net.A.Attach(); err != nil {
		return err
	}
	if err := s.sleep(gap - now().Sub(broken)); err != nil {
		return err
	}
	from := now()
	if err := s.net.A.Client.AddRoute(s.net.A.Route(metricA)); err != nil {
		return err
	}
	return s.follow(s.net.A, Move{
		Name: "IPv6 -> A", How: "break before make: no network at all for a while", Offline: from.Sub(broken),
	}, broken, from)
}

// follow watches a move until it is over. The old path died at broken, the new
// one could be used from since on.
func (s *scenario) follow(to *lab.Access, m Move, broken, since Instant) error {
	var first Instant
	err := s.until(m.Name+": the client's first packet on its new path", patience, func() (ok bool, err error) {
		m.To, first, ok = s.witness.First(to.Public, since, s.at)
		return ok, nil
	})
	if err != nil {
		return err
	}
	m.From, m.FirstPacket = s.at, first.Sub(since)
	if !m.Seamless {
		m.Outage = first.Sub(broken)
	}
	err = s.until(m.Name+": the edge's commit of "+m.To.String(), patience, func() (bool, error) {
		sessions, err := s.sessions()
		if err != nil || sessions[0].Remote != m.To {
			return false, err
		}
		m.Commit = instantOf(sessions[0].LastMove).Sub(since)
		return true, nil
	})
	if err != nil {
		return err
	}
	err = s.until(m.Name+": the first answer on the new path", patience, func() (bool, error) {
		// The datagram inside the first packet was sent just before the packet was seen,
		// but not before the network changed.
		_, arrived, echoed, ok := s.ledger.FirstAfter(max(since, first.Add(-time.Millisecond)))
		m.FirstByte, m.FirstAnswer = arrived.Sub(since), echoed.Sub(since)
		return ok, nil
	})
	if err != nil {
		return err
	}
	s.step("  %s: %s -> %s: first byte after %s, committed after %s", m.Name, m.From, m.To, round(m.FirstByte), round(m.Commit))
	s.at = m.To
	if err := s.sleep(overlap); err != nil {
		return err
	}
	s.report.Moves = append(s.report.Moves, m)
	s.moves = append(s.moves, stretch{broken.Add(-inFlight), now()})
	s.excuses = append(s.excuses, stretch{broken.Add(-inFlight), first})
	return nil
}

func (s *scenario) floodForged() error {
	return s.volley("network A, flood under the client's id", true, floodRate, AttackForgeFlood)
}

func (s *scenario) floodIDs() error {
	return s.volley("network B, flood of random ids", true, 2*floodRate, AttackRandomIDs)
}

func (s *scenario) floodInits() error {
	return s.volley("IPv6, flood of spoofed INITs", true, floodRate/2, AttackInits, AttackBlindInits)
}

// replayInit waits until the cookie in the client's INIT has expired: before,
// a repeat under the client's own address is in order.
func (s *scenario) replayInit() error {
	if err := s.sleep(cookieLife - now().Sub(s.began)); err != nil {
		return err
	}
	return s.volley("network A, replays of the client's INIT", false, dripRate, AttackReplayInit, AttackReplayInitSpoof)
}

// volley lets attacks run for a while and notes what they moved.
func (s *scenario) volley(name string, flood bool, rate int, attacks ...string) error {
	s.step("attacker: %s, %d/s", strings.Join(attacks, " and "), rate*len(attacks))
	before, err := s.control.Counters(s.context)
	if err != nil {
		return err
	}
	from := now()
	for _, attack := range attacks {
		if err := s.attacker.tell(Order{Attack: attack, Rate: rate, For: s.config.Pause}); err != nil {
			return err
		}
	}
	err = s.until("the end of "+name, s.config.Pause+patience, func() (bool, error) {
		return len(s.finished(attacks)) == len(attacks), nil
	})
	if err != nil {
		return err
	}
	s.span(name, flood, from)
	grown, err := s.met(attacks, before)
	if err != nil {
		return err
	}
	for _, attack := range attacks {
		s.windows[attack] = grown
	}
	return nil
}

// met returns the growth of the counters once each packet of the attacks has met its
// own: the edge has still to work on what came last, and some may be lost on the way.
func (s *scenario) met(attacks []string, before []control.Counter) ([]control.Counter, error) {
	for end := now().Add(5 * time.Second); ; {
		after, err := s.control.Counters(s.context)
		if err != nil {
			return nil, err
		}
		grown, all := since(before, after), true
		for _, c := range campaigns {
			if slices.Contains(attacks, c.parts[0]) {
				a := newAttack(c, s.finished(c.parts), grown)
				all = all && a.stopped() >= a.Sent
			}
		}
		if all || now() > end {
			return grown, nil
		}
		if err := s.sleep(50 * time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// finished returns the volleys of these attacks that are over, in their order.
func (s *scenario) finished(attacks []string) []Volley {
	s.mu.Lock()
	defer s.mu.Unlock()
	var done []Volley
	for _, attack := range attacks {
		for _, v := range s.volleys {
			if v.Attack == attack {
				done = append(done, v)
			}
		}
	}
	return done
}

// span notes a stretch without a move that ends now.
func (s *scenario) span(name string, flood bool, from Instant) {
	s.report.Spans = append(s.report.Spans, Span{Name: name, Flood: flood})
	// A move may follow at once, and takes what is on its way then into its own account.
	s.spans = append(s.spans, stretch{from, now().Add(-inFlight)})
}

// sessions asks the edge; there must be exactly the client's.
func (s *scenario) sessions() ([]control.Session, error) {
	sessions, err := s.control.Sessions(s.context, control.SessionQuery{})
	if err == nil && len(sessions) != 1 {
		err = fmt.Errorf("the edge has %d sessions instead of the client's one%s", len(sessions), s.edge.stderr.quote())
	}
	return sessions, err
}

// finish ends the stream and gathers what is to be judged.
func (s *scenario) finish() error {
	s.step("ending the stream, waiting for the last answers")
	end := now()
	if err := s.client.tell(Order{Stop: true}); err != nil {
		return err
	}
	if err := s.client.await(s.context, s.client.stopped, "finished", patience); err != nil {
		return err
	}
	if err := s.attacker.tell(Order{Stop: true}); err != nil {
		return err
	}
	if err := s.attacker.await(s.context, s.attacker.stopped, "finished", patience); err != nil {
		return err
	}
	if err := s.sleep(200 * time.Millisecond); err != nil {
		return err
	}
	counters, err := s.control.Counters(s.context)
	if err != nil {
		return err
	}
	if s.report.Sessions, err = s.sessions(); err != nil {
		return err
	}
	if s.report.SessionList, err = s.list(); err != nil {
		return err
	}
	s.step("shutting down and removing everything")
	if err := s.close(); err != nil {
		return err
	}
	s.settle(end, counters) // the parts have said all that they saw
	return nil
}

// settle writes the accounts.
func (s *scenario) settle(end Instant, counters []control.Counter) {
	r := s.report
	r.Counters = since(nil, counters)
	for _, c := range campaigns {
		// Some share a counter with another, at another time; the rest went on all the time.
		grown, ok := s.windows[c.parts[0]]
		if !ok {
			grown = since(s.baseline, counters)
		}
		r.Attacks = append(r.Attacks, newAttack(c, s.finished(c.parts), grown))
	}
	r.Inits = s.witness.Inits()
	r.Paths = s.pathsSoFar()
	for _, a := range []*lab.Access{s.net.A, s.net.B, s.net.Six} {
		r.Allowed = append(r.Allowed, a.Public)
	}
	r.Whole = s.ledger.Between(0, end)
	r.Strangers = s.ledger.Strangers()
	r.Refused = s.ledger.Refusals()
	for i, t := range s.spans {
		r.Spans[i].Account = s.ledger.Between(t.from, t.until)
	}
	for i, t := range s.moves {
		r.Moves[i].Account = s.ledger.Between(t.from, t.until)
		r.Moves[i].Excused = s.ledger.Between(s.excuses[i].from, s.excuses[i].until).Lost()
	}
}
