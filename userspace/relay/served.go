// SPDX-License-Identifier: Apache-2.0

package relay

import "sync"

// Served are the streams of a session that its server has in hand, so that the
// client can ask whether one is over (Conn.Over). The zero value has none.
type Served struct {
	mu   sync.Mutex
	open map[int64]chan struct{} // closed when the stream is over
}

// Begin notes a stream, by its number. It must be called in the order in which the Mux
// gives the streams out, which is the order of their numbers: so a question, whose own
// number is higher, finds what it asks about. end is to be called once, when the
// backend has all that it takes of the stream.
func (s *Served) Begin(id int64) (end func()) {
	over := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[int64]chan struct{})
	}
	s.open[id] = over
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, id)
		close(over)
	}
}

// never is what was never begun, or has ended long ago.
var never = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// over returns what is closed when a stream is.
func (s *Served) over(id int64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[id]; c != nil {
		return c
	}
	return never
}
