// SPDX-License-Identifier: Apache-2.0

// Package session is the ROAM/1 session state machine of docs/PROTOCOL.md, the
// same code for both ends. It is pure: packets and time go in; packets,
// datagrams, commits and events come out through an Output. It has no socket, no
// goroutine, no lock and no clock of its own, so that a test can drive two of
// them against each other in simulated time.
//
// A caller does four things:
//
//   - hands every DATA packet that names one of LocalIDs to Receive,
//   - hands datagrams to Send,
//   - calls Tick when Deadline has come, and asks for Deadline again after every
//     call,
//   - after every call carries out what the Output says: sends Packets, delivers
//     Datagrams, writes Commits to the slot table, looks at Events.
//
// Of Noise there is one part here, the rekey: its messages come from package
// handshake, which is as pure.
//
// A Session is not safe for concurrent use, but for Touch: the caller owns a lock
// or the goroutine.
//
// The invariant that every branch of Receive leans on: until the AEAD has opened
// a packet and the replay window has taken its counter, nothing but a counter by
// Reason changes.
package session
