// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Responder is a server's side of the handshake. It is safe for concurrent use.
type Responder struct {
	static *ecdh.PrivateKey
	psk    PSK
	known  func(PublicKey) *Precomputed
	random io.Reader
}

// NewResponder returns the responder with the server's identity. The preshared
// key, zero when there is none, is for every client that Request.SetPSK gives no other.
//
// known tells where what a client's handshakes have in common is kept, nil for keys that are
// none of the server's clients; it is asked before the client has proven anything, and
// must be quick and safe for concurrent use. It may be nil itself.
func NewResponder(static PrivateKey, psk PSK, known func(PublicKey) *Precomputed) (*Responder, error) {
	if static.IsZero() {
		return nil, fmt.Errorf("%w: the server's private key is not set", ErrBadKey)
	}
	key, err := ecdh.X25519().NewPrivateKey(static[:])
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrBadKey, err)
	}
	return &Responder{static: key, psk: psk, known: known, random: rand.Reader}, nil
}

// Request is an INIT that opened. It must be answered, by Accept or Refuse, at
// most once.
type Request struct {
	HandshakeID wire.ID
	Ephemeral   [wire.EphemeralLen]byte // the Noise e, by which a repeat is known
	Client      PublicKey               // proven when the client's first DATA opens
	Service     uint16
	Params      Params
	NewIDs      [3]NewID

	state *noise.HandshakeState
}

// Open reads an INIT. The caller has checked mac1, the cookie and its limits
// before, for this is where a handshake starts to cost. It fails with
// ErrNotOpened or ErrBadPayload, and the packet is to be dropped without an
// answer: its sender may be anyone.
func (r *Responder) Open(initPkt []byte) (*Request, error) {
	p, err := wire.ParseInit(initPkt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	d := &precomputedDH{dh: newDH(r.static), responder: r}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           newSuite(d),
		Random:                r.random,
		Pattern:               noise.HandshakeIK,
		Prologue:              prologue(p.Header()),
		PresharedKey:          r.psk[:],
		PresharedKeyPlacement: pskPlacement,
		StaticKeypair:         d.key(handleStatic),
	})
	if err != nil {
		return nil, err
	}
	d.state = state
	plaintext, _, _, err := state.ReadMessage(make([]byte, 0, wire.InitPayloadLen), p.Noise())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	d.keep()
	payload, err := parseInitPayload(plaintext)
	if err != nil {
		return nil, err
	}
	return &Request{
		HandshakeID: p.HandshakeID(),
		Ephemeral:   p.Ephemeral(),
		Client:      PublicKey(state.PeerStatic()),
		Service:     payload.service,
		Params:      payload.params,
		NewIDs:      payload.newIDs,
		state:       state,
	}, nil
}

// SetPSK makes the answer hang on a preshared key that belongs to this client. It
// is needed in message 2 only, so it can be chosen by who asks. Zero leaves the
// responder's.
func (q *Request) SetPSK(psk PSK) error {
	if psk.IsZero() {
		return nil
	}
	return q.state.SetPresharedKey(psk[:])
}

// Accept returns the RESP that opens the session and the session's secrets. It
// fails if the random source does, or if the acceptance does not fit a RESP.
func (q *Request) Accept(a Acceptance) (resp []byte, s Secrets, err error) {
	return q.answer(a.appendTo(nil))
}

// Refuse returns the RESP that says no. The reason is for a person to read.
func (q *Request) Refuse(st wire.Status, code wire.CloseCode, reason string) ([]byte, error) {
	resp, _, err := q.answer(wire.AppendClose(appendPayloadHeader(nil, uint16(st)), code, reason))
	return resp, err
}

func (q *Request) answer(payload []byte) ([]byte, Secrets, error) {
	header := wire.AppendRespHeader(make([]byte, 0, wire.MaxResp), q.HandshakeID)
	resp, first, second, err := q.state.WriteMessage(header, payload)
	if err != nil {
		return nil, Secrets{}, fmt.Errorf("make RESP: %w", err)
	}
	if len(resp) > wire.MaxResp {
		return nil, Secrets{}, fmt.Errorf("RESP of %d bytes: more than the %d of the INIT that it answers", len(resp), wire.MaxResp)
	}
	return resp, secretsOf(first, second), nil
}
