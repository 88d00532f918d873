// SPDX-License-Identifier: Apache-2.0

package service

// Use counts how a service is used, and how often it refused or failed.
type Use struct {
	// Sessions and Streams are those of now.
	Sessions, Streams int
	// SessionsServed and StreamsServed were within the limits; the others were refused.
	SessionsServed, SessionsRefused uint64
	StreamsServed, StreamsRefused   uint64
	// Failures counts datagram sessions and stream connections that the backend failed.
	Failures uint64
}

// Use returns the counts since the start.
func (s *Service) Use() Use {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.counts
	u.Sessions, u.Streams, u.Failures = g.total.sessions, g.total.streams, s.failures.Load()
	return u
}
