// SPDX-License-Identifier: Apache-2.0

// Package relay joins a connection of the host, such as TCP, with a stream, so
// that the two ends of the stream behave like one connection: an end of file
// stays a half-close, a reset stays a reset, and a reader that is slow slows the
// writer down. It also has the few bytes that each such stream begins with
// (docs/STREAMS.md): the server says in them whether its backend is there.
package relay
