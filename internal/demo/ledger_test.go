// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"slices"
	"testing"
	"time"
)

func TestLedgerAccounts(t *testing.T) {
	var l Ledger
	ms := func(n int) Instant { return Instant(n) * Instant(time.Millisecond) }
	for n := range uint64(10) {
		l.Sent([]Mark{mark(n, ms(100+int(n)))})
	}
	for n := range uint64(10) {
		if n == 3 || n == 4 { // lost on the way to the service
			continue
		}
		l.Arrived([]Mark{mark(n, ms(101+int(n)))})
		if n == 6 { // its answer is lost
			continue
		}
		l.Echoed([]Mark{mark(n, ms(102+int(n)))})
	}
	l.Arrived([]Mark{mark(8, ms(150))})
	l.Echoed([]Mark{mark(9, ms(150))})
	l.Arrived([]Mark{mark(77, ms(150)), mark(1<<40, ms(150))}) // nobody sent these
	l.Unknown(1)
	l.Refused([]Mark{mark(10, ms(110))}, "too large")

	whole := l.Between(0, ms(1000))
	if whole.Sent != 11 || whole.LostUp != 3 || whole.LostDown != 1 || whole.Duplicates != 2 {
		t.Errorf("the whole: %+v", whole)
	}
	if !slices.Equal(whole.LostNumbers, []uint64{3, 4, 6, 10}) || !slices.Equal(whole.DuplicateNumbers, []uint64{8, 9}) {
		t.Errorf("numbers: lost %v, twice %v", whole.LostNumbers, whole.DuplicateNumbers)
	}
	if whole.RTT50 != 2*time.Millisecond || whole.Worst != 2*time.Millisecond {
		t.Errorf("round trips: %v, worst %v", whole.RTT50, whole.Worst)
	}
	if part := l.Between(ms(103), ms(105)); part.Sent != 2 || part.LostUp != 2 || part.Lost() != 2 {
		t.Errorf("a part: %+v", part)
	}
	if n := l.Strangers(); n != 3 {
		t.Errorf("%d strangers, want 3", n)
	}
	if r := l.Refusals(); r["too large"] != 1 || len(r) != 1 {
		t.Errorf("refusals: %v", r)
	}
	sent, arrived, echoed, ok := l.FirstAfter(ms(103)) // 3 and 4 never arrived
	if !ok || sent != ms(105) || arrived != ms(106) || echoed != ms(107) {
		t.Errorf("first after: %d %d %d %v", sent, arrived, echoed, ok)
	}
	if _, _, _, ok := l.FirstAfter(ms(110)); ok {
		t.Error("found a datagram that never arrived")
	}
}

// A datagram can be seen at the service before the client's own report of it is.
func TestLedgerTakesReportsInAnyOrder(t *testing.T) {
	var l Ledger
	l.Echoed([]Mark{mark(0, 30)})
	l.Arrived([]Mark{mark(0, 20)})
	l.Sent([]Mark{mark(0, 10)})
	if a := l.Between(0, 100); a.Sent != 1 || a.Lost() != 0 || a.RTT50 != 20 || l.Strangers() != 0 {
		t.Errorf("%+v, %d strangers", a, l.Strangers())
	}
}
