// SPDX-License-Identifier: Apache-2.0

// Package stream carries reliable, ordered, multiplexed byte streams over a
// session: QUIC (RFC 9000, by quic-go) in the session's datagrams.
//
// The QUIC inside sees one pair of addresses that never changes, so it never
// hears of a move: no path validation of its own, no new congestion window, no
// connection id spent. What a move costs it is what the move loses, and after an
// outage the session's end that knows of the recovery makes both resume at once
// (see sender.replay) rather than when QUIC's doubled timers fire.
//
// QUIC's own timers never end it. Its idle timeout is longer than any session,
// it has no keepalive (that is the session's, 25 s), and quic-go's probe timer
// backs off to a minute and never gives up. So streams last exactly as long as
// their session: a laptop may sleep for as long as the session's idle timeout.
//
// The datagrams are described in docs/STREAMS.md.
package stream
