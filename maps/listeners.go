// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// ErrListenersFull: the places where this address may stand are taken.
var ErrListenersFull = errors.New("listeners table is full")

// Listener is a destination that the data plane takes for ours.
type Listener struct {
	// Addr is an address and a port of UDP. The unspecified address stands
	// for any, but only at the socket stage: XDP would also claim what
	// this host forwards to others.
	Addr netip.AddrPort
	// Index names the group of sockets that serves it (Sockets.Register): below MaxGroups.
	Index uint16
	// Everywhere lets the unspecified address hold in XDP too. Only where
	// nothing is forwarded.
	Everywhere bool
}

// Listeners is the table of destinations. Any goroutine may call any method.
type Listeners struct {
	mu       sync.Mutex
	entries  []listener
	readOnly bool
}

const listenerEverywhere = uint32(bpf.RoamRoamListenerFlagROAM_LISTENER_EVERYWHERE)

// listenerWords is an entry as the data plane compares it.
type listenerWords struct {
	addr0, addr1 uint64
	port         uint16 // network order
}

func wordsOf(addr netip.AddrPort) listenerWords {
	w := listenerWords{port: networkOrder(addr.Port())}
	if !addr.Addr().IsUnspecified() {
		w.addr0, w.addr1 = addrWords(addr.Addr())
	}
	return w
}

// place is where the search for an entry begins: listener_hash of
// bpf/listener.h, where the probing is explained too.
func (w listenerWords) place() uint32 {
	return uint32((w.addr0 ^ w.addr1 ^ uint64(w.port)) * 0x9e3779b97f4a7c15 >> 56)
}

// find calls f for the places of an entry until f returns true.
func (l *Listeners) find(w listenerWords, f func(*listener) bool) *listener {
	for i := range uint32(listenerProbes) {
		if e := &l.entries[(w.place()+i)%uint32(len(l.entries))]; f(e) {
			return e
		}
	}
	return nil
}

func (l *Listeners) lookup(w listenerWords) *listener {
	return l.find(w, func(e *listener) bool {
		return e.Port == w.port && e.Addr[0] == w.addr0 && e.Addr[1] == w.addr1
	})
}

// Add enters a destination, or changes the index and flag of one that is in.
func (l *Listeners) Add(n Listener) error {
	if l.readOnly {
		return ErrReadOnly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(n)
}

func (l *Listeners) add(n Listener) error {
	if !n.Addr.Addr().IsValid() || n.Addr.Port() == 0 {
		return fmt.Errorf("listener %v: it needs an address and a port", n.Addr)
	}
	if n.Index >= MaxGroups {
		return fmt.Errorf("listener %v: %w: %d", n.Addr, ErrSocketRange, n.Index)
	}
	w := wordsOf(n.Addr)
	e := l.lookup(w)
	if e == nil {
		e = l.find(w, func(e *listener) bool { return e.Port == 0 })
	}
	if e == nil {
		return fmt.Errorf("%w: no place left for %v among %d (at most about half of them are sure to fit)", ErrListenersFull, n.Addr, len(l.entries))
	}
	// The word with the port goes last: an entry without a port matches nothing.
	e.Addr[0], e.Addr[1] = w.addr0, w.addr1
	var flags uint32
	if n.Everywhere {
		flags = listenerEverywhere
	}
	e.publish(w.port, n.Index, flags)
	return nil
}

// publish stores port, index and flags as one word.
func (e *listener) publish(networkPort, index uint16, flags uint32) {
	var b [8]byte
	binary.NativeEndian.PutUint16(b[0:2], networkPort)
	binary.NativeEndian.PutUint16(b[2:4], index)
	binary.NativeEndian.PutUint32(b[4:8], flags)
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&e.Port)), binary.NativeEndian.Uint64(b[:]))
}

// Remove takes a destination out; one that is not in is no error.
func (l *Listeners) Remove(addr netip.AddrPort) error {
	if l.readOnly {
		return ErrReadOnly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.lookup(wordsOf(addr)); e != nil {
		e.publish(0, 0, 0)
	}
	return nil
}

// Replace makes the table hold exactly these destinations. What is in the
// table already stays untouched, so no packet of it is missed. On an error the
// rest of them are entered all the same.
func (l *Listeners) Replace(list []Listener) error {
	if l.readOnly {
		return ErrReadOnly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := make(map[listenerWords]bool, len(list))
	for _, n := range list {
		keep[wordsOf(n.Addr)] = true
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.Port != 0 && !keep[listenerWords{e.Addr[0], e.Addr[1], e.Port}] {
			e.publish(0, 0, 0)
		}
	}
	var errs []error
	for _, n := range list {
		errs = append(errs, l.add(n))
	}
	return errors.Join(errs...)
}

// List returns the destinations in the order of their addresses.
func (l *Listeners) List() []Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Listener
	for i := range l.entries {
		e := &l.entries[i]
		if e.Port == 0 {
			continue
		}
		addr := fromAddrWords(e.Addr[0], e.Addr[1])
		list = append(list, Listener{
			Addr:       netip.AddrPortFrom(addr, networkOrder(e.Port)),
			Index:      e.Index,
			Everywhere: e.Flags&listenerEverywhere != 0,
		})
	}
	slices.SortFunc(list, func(a, b Listener) int { return a.Addr.Compare(b.Addr) })
	return list
}
