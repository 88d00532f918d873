// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Witness watches the core's links to the client's networks: an account of what
// was on the wire that depends on nobody's word.
type Witness struct {
	port uint16 // the edge's
	taps []*os.File
	done sync.WaitGroup

	mu        sync.Mutex
	sightings []sighting // of the client's DATA
	inits     int        // INITs of the client
}

type sighting struct {
	from netip.AddrPort
	at   Instant
}

// NewWitness starts watching.
func NewWitness(t *lab.Topology, port uint16) (*Witness, error) {
	w := &Witness{port: port}
	for _, a := range []*lab.Access{t.A, t.B, t.Six} {
		tap, err := t.Core.OpenPacket(a.Tap, lab.EtherAll)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.taps = append(w.taps, tap)
		w.done.Go(func() { w.watch(tap) })
	}
	return w, nil
}

// Close ends it.
func (w *Witness) Close() error {
	for _, tap := range w.taps {
		tap.Close()
	}
	w.done.Wait()
	return nil
}

func (w *Witness) watch(tap *os.File) {
	for frame := make([]byte, 1<<16); ; {
		size, err := tap.Read(frame)
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once each time the link goes down
		}
		if err != nil {
			return
		}
		from, to, payload, ok := parseFrame(frame[:size])
		if !ok || to.Port() != w.port || len(payload) == 0 {
			continue
		}
		w.mu.Lock()
		at := now() // under the lock: sightings are in the order of time
		switch payload[0] {
		case wire.TypeData:
			w.sightings = append(w.sightings, sighting{from, at})
		case wire.TypeInit:
			w.inits++
		}
		w.mu.Unlock()
	}
}

// First finds the first DATA of the client, seen at or after since, that came
// from an address and not from one of its former endpoints.
func (w *Witness) First(from netip.Addr, since Instant, former netip.AddrPort) (netip.AddrPort, Instant, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	start, _ := slices.BinarySearchFunc(w.sightings, since, func(s sighting, t Instant) int { return cmp.Compare(s.at, t) })
	for _, s := range w.sightings[start:] {
		if s.from.Addr() == from && s.from != former {
			return s.from, s.at, true
		}
	}
	return netip.AddrPort{}, 0, false
}

// Inits is how many INITs the client sent.
func (w *Witness) Inits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inits
}
