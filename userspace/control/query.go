// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrQuery: a query asks for what there is not; what wraps it says what there is.
var ErrQuery = errors.New("bad query")

// SessionQuery says which sessions are wanted, and in what order. The zero value
// asks for every open one, the oldest first. Of several values in one field any
// will do.
type SessionQuery struct {
	// IDs are beginnings, in hexadecimal, of Session.ID or Session.CurrentID.
	IDs      []string
	Services []uint16
	// Peers are names, or beginnings of public keys.
	Peers   []string
	Workers []int
	// States are of SessionStates; none: open, and StateAll: any.
	States []string
	// MovedSince keeps those whose last move was committed then or later; zero: all.
	MovedSince time.Time
	// Sort is one of SessionSorts; empty: started.
	Sort    string
	Reverse bool
	// Limit is how many of them at most, after sorting; 0: all.
	Limit int
}

// SortNone leaves the sessions in no particular order, which spares the daemon the
// memory for one.
const SortNone = "none"

// sortKey is what sessions are ordered by: the number first.
type sortKey struct {
	number int64
	text   string
}

// sortKeys has, for each order, what comes first: large counts, recent times, and
// the least of all else.
var sortKeys = map[string]func(*Session) sortKey{
	"started":    func(s *Session) sortKey { return sortKey{number: s.Started.UnixNano()} },
	"id":         func(*Session) sortKey { return sortKey{} }, // ties are settled by it
	"peer":       func(s *Session) sortKey { return sortKey{text: cmp.Or(s.PeerName, string(s.PeerKey[:]))} },
	"service":    func(s *Session) sortKey { return sortKey{number: int64(s.Service)} },
	"worker":     func(s *Session) sortKey { return sortKey{number: int64(s.Owner)} },
	"remote":     remoteKey,
	"moves":      func(s *Session) sortKey { return sortKey{number: -int64(s.Moves)} },
	"last-move":  func(s *Session) sortKey { return recent(s.LastMove) },
	"last-heard": func(s *Session) sortKey { return recent(s.LastReceived) },
	"rtt":        func(s *Session) sortKey { return sortKey{number: -s.RTT} },
	"alarms":     func(s *Session) sortKey { return sortKey{number: -int64(s.ForwardingAlarms)} },
	"packets":    func(s *Session) sortKey { return sortKey{number: -int64(s.PacketsReceived + s.PacketsSent)} },
	"bytes":      func(s *Session) sortKey { return sortKey{number: -int64(s.BytesReceived + s.BytesSent)} },
}

// SessionSorts are the orders that a SessionQuery can ask for, beside SortNone.
var SessionSorts = slices.Sorted(maps.Keys(sortKeys))

func recent(t time.Time) sortKey {
	if t.IsZero() {
		return sortKey{}
	}
	return sortKey{number: -t.UnixNano()}
}

func remoteKey(s *Session) sortKey {
	address := s.Remote.Addr().As16()
	return sortKey{text: string(append(address[:], byte(s.Remote.Port()>>8), byte(s.Remote.Port())))}
}

// Check returns an error that wraps ErrQuery where no daemon would understand q.
func (q *SessionQuery) Check() error {
	for _, id := range q.IDs {
		if !isHex(id) {
			return fmt.Errorf("%w: %q is no beginning of an id: those are hexadecimal", ErrQuery, id)
		}
	}
	for _, state := range q.States {
		if state != StateAll && !slices.Contains(SessionStates, state) {
			return fmt.Errorf("%w: no state %q: there are %s and %s", ErrQuery, state, strings.Join(SessionStates, ", "), StateAll)
		}
	}
	if q.Sort != "" && q.Sort != SortNone && sortKeys[q.Sort] == nil {
		return fmt.Errorf("%w: no order %q: there are %s and %s", ErrQuery, q.Sort, strings.Join(SessionSorts, ", "), SortNone)
	}
	if q.Limit < 0 {
		return fmt.Errorf("%w: a limit of %d: write how many, or 0 for all", ErrQuery, q.Limit)
	}
	return nil
}

func isHex(text string) bool {
	return text != "" && len(text) <= 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// match reports whether s is wanted.
func (q *SessionQuery) match(s *Session) bool {
	return q.matchState(s.State) && (q.MovedSince.IsZero() || !s.LastMove.Before(q.MovedSince)) &&
		within(q.Services, s.Service) && within(q.Workers, s.Owner) && q.matchPeer(s) && q.matchID(s)
}

func within[T comparable](wanted []T, have T) bool {
	return len(wanted) == 0 || slices.Contains(wanted, have)
}

func (q *SessionQuery) matchState(state string) bool {
	if len(q.States) == 0 {
		return state == StateOpen
	}
	return slices.Contains(q.States, state) || slices.Contains(q.States, StateAll)
}

func (q *SessionQuery) matchPeer(s *Session) bool {
	if len(q.Peers) == 0 || slices.Contains(q.Peers, s.PeerName) {
		return true
	}
	var key [44]byte
	base64.StdEncoding.Encode(key[:], s.PeerKey[:])
	return anyBegins(key[:], q.Peers)
}

func (q *SessionQuery) matchID(s *Session) bool {
	if len(q.IDs) == 0 {
		return true
	}
	var text [32]byte
	hex.Encode(text[:], s.ID[:])
	if anyBegins(text[:], q.IDs) {
		return true
	}
	hex.Encode(text[:], s.CurrentID[:])
	return anyBegins(text[:], q.IDs)
}

func anyBegins(text []byte, beginnings []string) bool {
	for _, b := range beginnings {
		if len(b) > 0 && len(b) <= len(text) && string(text[:len(b)]) == b {
			return true
		}
	}
	return false
}

// values writes q as the query of a URL.
func (q *SessionQuery) values() url.Values {
	v := make(url.Values)
	add := func(name string, values ...string) {
		for _, value := range values {
			v.Add(name, value)
		}
	}
	add("id", q.IDs...)
	for _, s := range q.Services {
		add("service", strconv.Itoa(int(s)))
	}
	add("peer", q.Peers...)
	for _, w := range q.Workers {
		add("worker", strconv.Itoa(w))
	}
	add("state", q.States...)
	if !q.MovedSince.IsZero() {
		add("moved_since", q.MovedSince.Format(time.RFC3339Nano))
	}
	if q.Sort != "" {
		add("sort", q.Sort)
	}
	if q.Reverse {
		add("reverse", "true")
	}
	if q.Limit != 0 {
		add("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// parseSessionQuery reads what values writes. A parameter that this version does
// not know is an error: what it would leave out is not what was asked for.
func parseSessionQuery(v url.Values) (q SessionQuery, err error) {
	p := parameters{values: v}
	q = p.sessions()
	q.States = p.texts("state")
	q.MovedSince = p.time("moved_since")
	q.Sort = p.text("sort")
	q.Reverse = p.flag("reverse")
	q.Limit = int(p.number("limit", 31))
	if err := p.done(); err != nil {
		return q, err
	}
	return q, q.Check()
}

// parameters reads the query of a URL; done says what was wrong with it.
type parameters struct {
	values url.Values
	known  []string
	err    error
}

// sessions reads what chooses sessions and what is told of them.
func (p *parameters) sessions() (q SessionQuery) {
	q.IDs = p.texts("id")
	for _, n := range p.numbers("service", 16) {
		q.Services = append(q.Services, uint16(n))
	}
	q.Peers = p.texts("peer")
	for _, n := range p.numbers("worker", 31) {
		q.Workers = append(q.Workers, int(n))
	}
	return q
}

func (p *parameters) texts(name string) []string {
	p.known = append(p.known, name)
	return p.values[name]
}

func (p *parameters) text(name string) string {
	if values := p.texts(name); len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func (p *parameters) numbers(name string, bits int) (numbers []uint64) {
	for _, text := range p.texts(name) {
		n, err := strconv.ParseUint(text, 10, bits)
		if err != nil {
			p.fail(name, text, "a number")
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func (p *parameters) number(name string, bits int) uint64 {
	if numbers := p.numbers(name, bits); len(numbers) > 0 {
		return numbers[len(numbers)-1]
	}
	return 0
}

func (p *parameters) time(name string) time.Time {
	text := p.text(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		p.fail(name, text, "a time of RFC 3339")
	}
	return t
}

func (p *parameters) flag(name string) bool {
	text := p.text(name)
	if text == "" {
		return false
	}
	is, err := strconv.ParseBool(text)
	if err != nil {
		p.fail(name, text, "true or false")
	}
	return is
}

func (p *parameters) fail(name, text, want string) {
	p.err = cmp.Or(p.err, fmt.Errorf("%w: %s=%q is not %s", ErrQuery, name, text, want))
}

func (p *parameters) done() error {
	for name := range p.values {
		if !slices.Contains(p.known, name) {
			p.err = cmp.Or(p.err, fmt.Errorf("%w: no parameter %q: there are %s", ErrQuery, name, strings.Join(p.known, ", ")))
		}
	}
	return p.err
}
