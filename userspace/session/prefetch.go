// SPDX-License-Identifier: Apache-2.0

package session

import (
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// TouchSteps is how many steps Touch takes.
const TouchSteps = 4

// Touch asks the processor for what Receive of a packet with that counter will look
// at and, if answers says so, for what sending takes. It does so in steps from 0,
// each of which follows the pointers that the one before has asked for: a caller
// with the packets of many sessions takes a step for all of them before the next,
// and their cache misses overlap.
//
// It alone may be called without the lock that guards the Session: all it reads are
// pointers, and those that change are stored by publish. Nothing hangs on what it
// sees.
func (s *Session) Touch(step int, counter uint64, answers bool) {
	switch step {
	case 0:
		prefetch.Object(&s.hot)
	case 1:
		prefetch.Object(peek(&s.pathLocal))
		prefetch.Object(peek(&s.rid))
	case 2:
		if u := peek(&peek(&s.pathLocal).use); u != nil {
			prefetch.Object(&u.key)
			// The counter's bit in the window, behind the word that ends it.
			prefetch.Bytes(unsafe.Add(unsafe.Pointer(&u.window), 8+counter/8%(replayBits/8)), 1)
		}
		if answers {
			prefetch.Object(peek(&peek(&s.rid).key))
		}
	case 3:
		if u := peek(&peek(&s.pathLocal).use); u != nil {
			u.key.touchSchedule()
		}
		if k := peek(&peek(&s.rid).key); answers && k != nil {
			k.touchSchedule()
		}
	}
}

// PathSteps is how many steps TouchPaths takes.
const PathSteps = 5

// TouchPaths is Touch for what a packet from elsewhere or a timer looks at beyond that:
// paths that are on trial or were left, with the keys of those, and the ids beside the
// current ones. id is the packet's, or zero. Much of it moves about in memory, so it
// needs the lock.
func (s *Session) TouchPaths(step int, id *wire.ID) {
	switch step {
	case 0:
		prefetch.Object(s)
	case 1:
		prefetch.Bytes(unsafe.Pointer(unsafe.SliceData(s.candidates)), unsafe.Sizeof(moving{})) // mostly one piece
		prefetch.Object(unsafe.SliceData(s.remote))
		prefetch.Object(unsafe.SliceData(s.local))
		prefetch.Object(s.tallied)
	case 2:
		for _, r := range s.remote {
			prefetch.Object(r)
		}
		for _, l := range s.local {
			prefetch.Object(l)
			if *id == s.pathLocal.ID || *id == (wire.ID{}) {
				break // the others are not looked at
			}
		}
	case 3:
		for i := range s.departures {
			prefetch.Object(s.departures[i].rid.key)
		}
	case 4:
		for i := range s.departures {
			if k := s.departures[i].rid.key; k != nil {
				k.touchSchedule()
			}
		}
	}
}

// publish stores a pointer that Touch follows. Who reads one with the session's lock
// held needs no peek.
func publish[T any](p **T, v *T) {
	atomic.StorePointer((*unsafe.Pointer)(unsafe.Pointer(p)), unsafe.Pointer(v))
}

func peek[T any](p **T) *T { return (*T)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(p)))) }

// replayBits is how many bits replay.Filter holds.
const replayBits = 8192

// scheduleLen is the memory that crypto/cipher keeps for an AES-256-GCM key: the
// round keys and the multiples of the GHASH key.
const scheduleLen = 768

// touchSchedule touches that memory, if it is where the AEAD points to. A key does
// not change once it is published.
func (k *idKey) touchSchedule() {
	if v := reflect.ValueOf(k.aead); v.Kind() == reflect.Pointer {
		prefetch.Bytes(v.UnsafePointer(), scheduleLen)
	}
}
