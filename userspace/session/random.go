// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/rand"
	"encoding/binary"
	"io"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// maxRandom is the most random bytes that are taken at a time.
const maxRandom = 32

// entropy is random bytes of crypto/rand that wait to be used: a move takes some
// four times, and each is a call of the system. Every byte is handed out once and
// wiped, so that what is in memory later says nothing of the cookies before, and an
// Output has one caller at a time, so that no two get the same. What crypto/rand
// guards against beyond that, a copy of the whole machine, rolls back the counters
// of the sessions too, and is none of a session's business (PROTOCOL.md).
type entropy struct {
	bytes   [16 * maxRandom]byte
	left    int
	scratch [maxRandom]byte // would escape to the heap as a local variable
}

// draw returns n bytes, which are valid until the next draw.
func (e *entropy) draw(n int) []byte {
	if e.left < n {
		rand.Read(e.bytes[:]) // never fails
		e.left = len(e.bytes)
	}
	from := e.bytes[len(e.bytes)-e.left:][:n]
	e.left -= n
	copy(e.scratch[:], from)
	clear(from)
	return e.scratch[:n]
}

// source returns where random bytes come from.
func (s *Session) source() io.Reader {
	if s.options == nil || s.options.random == nil {
		return rand.Reader
	}
	return s.options.random
}

// random returns n random bytes, at most maxRandom, which are valid until the next.
func (s *Session) random(n int, out *Output) []byte {
	if s.options == nil || s.options.random == nil {
		return out.random.draw(n)
	}
	b := out.random.scratch[:n]
	if _, err := io.ReadFull(s.options.random, b); err != nil {
		// A broken source of the caller must not make cookies guessable.
		rand.Read(b)
	}
	return b
}

func (s *Session) randomCookie(out *Output) wire.Cookie { return wire.Cookie(s.random(16, out)) }
func (s *Session) randomToken(out *Output) uint64 {
	return binary.BigEndian.Uint64(s.random(8, out))
}
