// SPDX-License-Identifier: Apache-2.0

// Package client opens ROAM/1 sessions and keeps them while this host's
// addresses change:
//
//	s, err := client.Dial(ctx, client.Config{
//		Servers:   servers, // client.Resolve(ctx, "edge.example.com:7626")
//		ServerKey: key,
//		Service:   7,
//	})
//	...
//	defer s.Close(wire.CloseDone, "")
//	err = s.SendDatagram(p)
//	n, err := s.ReceiveDatagram(ctx, p)
//
// A session reads and writes whole datagrams, which may be lost, doubled or
// swapped like any datagram of UDP. When the system's routes or addresses change
// it opens a new socket where its packets would now leave from and goes on
// there under new ids; reading and writing notice nothing but a gap. Config.OnEvent
// tells of it.
//
// How it works: package session decides and package netio moves bytes. Here is
// what binds them: attempt.go is INIT until RESP, session.go the goroutines
// around the state machine, roam.go the watch over the network.
package client
