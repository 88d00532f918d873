// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
)

// breath is after how many sessions a listing lets others run: whoever carries
// packets must not wait for the 10 ms after which the scheduler would step in.
const breath = 128

// entry is what a listing holds of a session while it sorts: not the session,
// which is read again when its turn comes.
type entry struct {
	live Live
	key  sortKey
	id   [16]byte
}

// list calls emit for the sessions that q asks for, in its order, until emit
// fails. What emit is given is valid until it returns. For a sorted list memory
// is needed for an entry each, or about twice the limit of them.
func list(ctx context.Context, source Source, q *SessionQuery, emit func(*Session) error) error {
	if q.Sort == SortNone {
		return listUnsorted(ctx, source, q, emit)
	}
	entries, err := collect(ctx, source, q)
	if err != nil {
		return err
	}
	var s Session
	for i := range entries {
		if err := pause(ctx, i); err != nil {
			return err
		}
		entries[i].live.Read(&s)
		entries[i].live = nil
		if !q.match(&s) { // any more
			continue
		}
		if err := emit(&s); err != nil {
			return err
		}
	}
	return nil
}

func listUnsorted(ctx context.Context, source Source, q *SessionQuery, emit func(*Session) error) error {
	listed := 0
	var failed error
	err := each(ctx, source, func(_ Live, s *Session) bool {
		if q.match(s) {
			failed = emit(s)
			listed++
		}
		return failed == nil && (q.Limit == 0 || listed < q.Limit)
	})
	return cmp.Or(failed, err)
}

// collect returns the entries that q asks for, sorted and no more than its limit.
func collect(ctx context.Context, source Source, q *SessionQuery) (entries []entry, err error) {
	key := sortKeys[cmp.Or(q.Sort, "started")]
	order := compareEntries
	if q.Reverse {
		order = func(a, b entry) int { return compareEntries(b, a) }
	}
	// Between two prunings the list grows to twice what is kept.
	most := max(2*q.Limit, 4096)
	prune := func() {
		slices.SortFunc(entries, order)
		if q.Limit > 0 && len(entries) > q.Limit {
			clear(entries[q.Limit:])
			entries = entries[:q.Limit]
		}
	}
	err = each(ctx, source, func(live Live, s *Session) bool {
		if q.match(s) {
			if len(entries) == cap(entries) {
				// To twice the size: append takes a quarter more, and would copy a million four times.
				entries = slices.Grow(entries, max(len(entries), 1024))
			}
			entries = append(entries, entry{live, key(s), s.ID})
			if q.Limit > 0 && len(entries) >= most {
				prune()
			}
		}
		return true
	})
	prune()
	return entries, err
}

// compareEntries looks at no more than it must: a million are sorted by it.
func compareEntries(a, b entry) int {
	if a.key.number != b.key.number {
		return cmp.Compare(a.key.number, b.key.number)
	}
	if c := cmp.Compare(a.key.text, b.key.text); c != 0 {
		return c
	}
	return bytes.Compare(a.id[:], b.id[:])
}

// each calls f for each session until it returns false or ctx ends. What f is
// given is valid until it returns.
func each(ctx context.Context, source Source, f func(Live, *Session) bool) (err error) {
	var s Session
	visited := 0
	source.Sessions(func(live Live) bool {
		if err = pause(ctx, visited); err != nil {
			return false
		}
		visited++
		live.Read(&s)
		return f(live, &s)
	})
	return err
}

// pause lets others run now and then, and fails when nobody waits for the list
// any more.
func pause(ctx context.Context, visited int) error {
	if visited%breath != 0 {
		return nil
	}
	runtime.Gosched()
	return ctx.Err()
}

// maxDetails is how many sessions are told of in detail for one beginning of an
// id: enough to say what it could have meant.
const maxDetails = 10

// details returns those whose ids begin so.
func details(ctx context.Context, source Source, id string) (found []Detail, err error) {
	q := SessionQuery{IDs: []string{id}, States: []string{StateAll}}
	err = each(ctx, source, func(live Live, s *Session) bool {
		if q.match(s) {
			found = append(found, live.Detail())
		}
		return len(found) < maxDetails
	})
	return found, err
}

// closeSessions closes those that are open, and returns what they were.
func closeSessions(ctx context.Context, source Source, request CloseRequest) (closed []Session, err error) {
	wanted := make(map[[16]byte]bool, len(request.IDs))
	for _, id := range request.IDs {
		wanted[id] = true
	}
	var failed []error
	err = each(ctx, source, func(live Live, s *Session) bool {
		if s.State != StateOpen || !wanted[s.ID] {
			return true
		}
		delete(wanted, s.ID)
		one := *s
		one.Candidates = slices.Clone(s.Candidates)
		if err := live.Close(request.Reason); err != nil {
			failed = append(failed, err)
		} else {
			closed = append(closed, one)
		}
		return len(wanted) > 0
	})
	return closed, errors.Join(append(failed, err)...)
}
