// SPDX-License-Identifier: Apache-2.0

// Package client opens ROAM/1 sessions and keeps them while this host's
// addresses change:
//
//	s, err := client.Dial(ctx, client.Config{
//		Server:    "edge.example.com",
//		ServerKey: key,
//		Service:   7,
//	})
//	...
//	defer s.Close(wire.CloseDone, "")
//	err = s.SendDatagram(p)
//	n, err := s.ReceiveDatagram(ctx, p)
//
// A session reads and writes whole datagrams, which may be lost, duplicated or reordered
// like any UDP datagram. Three things can happen to it, each of which is reported to
// Config.OnEvent:
//
//   - It moves. When the system's routes or addresses change, a new socket is
//     opened where packets would now leave from, and the session goes on there
//     under new ids; reading and writing notice nothing but a gap.
//   - It races. When nothing comes back any more, when a move led nowhere, or when
//     the machine has slept, the session asks on all paths at once: from every
//     network that the host is on to every address that the server may have, by
//     its name, too. The first to answer is where it goes on.
//   - It is opened again. When the server says that it has lost the session, or no
//     path answers, another one takes its place: Session.Generation grows, and what
//     was under way is lost. A session that the server may still have is never
//     given up before: it is heard or replaced, whichever comes first.
//
// How it works: package session decides and package netio moves bytes. Here is
// what binds them: attempt.go is INIT until RESP, run.go the goroutines around the
// state machine, roam.go the watch over the network, race.go the races and
// reopen.go what comes when they are lost.
package client
