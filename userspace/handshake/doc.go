// SPDX-License-Identifier: Apache-2.0

// Package handshake opens ROAM/1 sessions: the Noise IKpsk2 exchange inside INIT
// and RESP, mac1 and the address cookie that defend it, and the keys behind
// them. It has no socket and no clock; what it does with a packet is written in
// docs/PROTOCOL.md.
//
// A server checks a packet in the order of cost: wire.ParseInit, MAC1Key.Verify,
// Cookies.Valid, its own limits, and only then Responder.Open, which costs four
// scalar multiplications with Request.Accept.
package handshake

import "errors"

var (
	// ErrNotOpened means that a packet does not open with our keys: it is forged,
	// damaged, meant for another key, or made with another preshared key. It
	// changed nothing; drop it and go on waiting.
	ErrNotOpened = errors.New("handshake packet does not open")

	// ErrBadPayload means that a packet is authentic but its payload breaks the
	// protocol. A server drops such an INIT; a client gives up on such a RESP.
	ErrBadPayload = errors.New("handshake payload breaks the protocol")

	// ErrNoPSK means that the server accepted without the preshared key that we have
	// for it: it has none for our key. Without it there is no session.
	ErrNoPSK = errors.New("the server has no preshared key for this client, and this client has one")

	// ErrDowngrade means that the server authenticated a list of versions that has
	// a newer one that we know too: someone in between made us speak an older one.
	ErrDowngrade = errors.New("the connection was moved to an older protocol version than both ends speak")
)
