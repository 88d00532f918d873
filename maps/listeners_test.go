// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func newListeners() *Listeners { return &Listeners{entries: make([]listener, 256)} }

func at(s string) Listener { return Listener{Addr: netip.MustParseAddrPort(s)} }

func TestListeners(t *testing.T) {
	l := newListeners()
	a, b, c := at("192.0.2.1:7626"), at("[2001:db8::1]:7626"), Listener{Addr: netip.MustParseAddrPort("[::]:7626"), Index: 3, Everywhere: true}
	for _, n := range []Listener{a, b, c} {
		if err := l.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := l.List(), []Listener{a, c, b}; !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}

	// Adding again changes the entry where it stands.
	a.Index = 3
	if err := l.Add(a); err != nil {
		t.Fatal(err)
	}
	if got := l.List(); len(got) != 3 || got[0] != a {
		t.Errorf("after a change: %v", got)
	}
	if err := l.Remove(b.Addr); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(b.Addr); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if got, want := l.List(), []Listener{a, c}; !slices.Equal(got, want) {
		t.Errorf("after Remove: %v, want %v", got, want)
	}
	d := at("198.51.100.9:7626")
	if err := l.Replace([]Listener{d, a}); err != nil {
		t.Fatal(err)
	}
	if got, want := l.List(), []Listener{a, d}; !slices.Equal(got, want) {
		t.Errorf("after Replace: %v, want %v", got, want)
	}
}

func TestListenerNeedsAddressAndPort(t *testing.T) {
	l := newListeners()
	for _, n := range []Listener{{}, at("192.0.2.1:0")} {
		if err := l.Add(n); err == nil {
			t.Errorf("%v was taken", n)
		}
	}
}

// Removing one of several that collide must not hide the others: a search
// looks at all the places, so nothing needs to move.
func TestListenersThatCollide(t *testing.T) {
	l := newListeners()
	var same []Listener
	want := wordsOf(at("10.0.0.1:7626").Addr).place()
	for i := 0; len(same) < listenerProbes+1; i++ {
		n := at(fmt.Sprintf("10.%d.%d.%d:7626", i>>16&255, i>>8&255, i&255))
		if wordsOf(n.Addr).place() == want {
			same = append(same, n)
		}
	}
	for _, n := range same[:listenerProbes] {
		if err := l.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	last := same[listenerProbes]
	if err := l.Add(last); !errors.Is(err, ErrListenersFull) {
		t.Fatalf("a ninth of the same hash: %v, want ErrListenersFull", err)
	}
	if err := l.Remove(same[0].Addr); err != nil {
		t.Fatal(err)
	}
	if got := l.List(); len(got) != listenerProbes-1 {
		t.Fatalf("%d left, want %d", len(got), listenerProbes-1)
	}
	if err := l.Add(last); err != nil {
		t.Errorf("into the place that got free: %v", err)
	}
	if err := l.Add(same[1]); err != nil {
		t.Errorf("one that is in: %v", err)
	}
	if got := l.List(); len(got) != listenerProbes {
		t.Errorf("%d entries, want %d", len(got), listenerProbes)
	}
}

func TestAHundredListenersFit(t *testing.T) {
	l := newListeners()
	for i := range 100 {
		for _, n := range []Listener{at(fmt.Sprintf("192.0.2.%d:7626", i))} {
			if err := l.Add(n); err != nil {
				t.Fatal(err)
			}
		}
	}
}
