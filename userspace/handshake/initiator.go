// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// ClientConfig is what an attempt to open a session needs.
type ClientConfig struct {
	Static  PrivateKey // who we are; zero: a fresh key, nobody in particular
	Server  PublicKey  // who must answer
	PSK     PSK
	Service uint16
	Params  Params
	NewIDs  [3]NewID // that we issue, seq 0, 1, 2
	// Random gives the static key if there is none, the handshake id and the Noise
	// e, in this order. Nil means crypto/rand.
	Random io.Reader
}

// Initiator is one attempt to open a session: one handshake id and one INIT. It
// is not safe for concurrent use.
type Initiator struct {
	cfg     noise.Config // without the preshared key
	psk     PSK
	dh      *dh
	payload []byte
	packet  wire.Init
}

// NewInitiator makes the INIT of a new attempt. It fails if the server's key is
// none (ErrBadKey) or the random source fails.
func NewInitiator(cfg ClientConfig) (*Initiator, error) {
	if cfg.Server.IsZero() {
		return nil, fmt.Errorf("%w: the server's public key is not set", ErrBadKey)
	}
	random := cfg.Random
	if random == nil {
		random = rand.Reader
	}
	if cfg.Static.IsZero() {
		if _, err := io.ReadFull(random, cfg.Static[:]); err != nil {
			return nil, fmt.Errorf("make a client key: %w", err)
		}
	}
	var hid wire.ID
	if _, err := io.ReadFull(random, hid[:]); err != nil {
		return nil, fmt.Errorf("make a handshake id: %w", err)
	}
	static, err := ecdh.X25519().NewPrivateKey(cfg.Static[:])
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrBadKey, err)
	}

	payload := initPayload{service: cfg.Service, params: cfg.Params, newIDs: cfg.NewIDs}
	d := newDH(static)
	d.server = cfg.Server[:]
	i := &Initiator{
		psk:     cfg.PSK,
		dh:      d,
		payload: payload.appendTo(make([]byte, 0, wire.InitPayloadLen))[:wire.InitPayloadLen], // PAD is zeros
		packet:  wire.NewInit(make([]byte, wire.InitLen), hid),
	}
	i.cfg = noise.Config{
		CipherSuite:           newSuite(d),
		Random:                random,
		Pattern:               noise.HandshakeIK,
		Initiator:             true,
		Prologue:              prologue(i.packet.Header()),
		PresharedKeyPlacement: pskPlacement,
		StaticKeypair:         d.key(handleStatic),
		PeerStatic:            cfg.Server[:],
	}
	_, message, err := i.start(cfg.PSK)
	if err != nil {
		return nil, fmt.Errorf("%w: the server's public key cannot be used: %w", ErrBadKey, err)
	}
	copy(i.packet.Noise(), message)
	i.packet.SetMAC1(NewMAC1Key(cfg.Server).Sum(i.packet))
	return i, nil
}

// start runs Noise up to and with message 1. All its inputs are kept, so it
// always comes to the same state and the same message; the preshared key does
// nothing before message 2.
func (i *Initiator) start(psk PSK) (*noise.HandshakeState, []byte, error) {
	cfg := i.cfg
	cfg.PresharedKey = psk[:]
	state, err := noise.NewHandshakeState(cfg)
	if err != nil {
		return nil, nil, err
	}
	message, _, _, err := state.WriteMessage(make([]byte, 0, wire.InitLen), i.payload)
	return state, message, err
}

// HandshakeID names the attempt.
func (i *Initiator) HandshakeID() wire.ID { return i.packet.HandshakeID() }

// Packet returns the INIT, the same bytes each time but for the cookie. The
// caller must not change it; it changes with SetCookie.
func (i *Initiator) Packet() []byte { return i.packet }

// SetCookie puts the cookie of a RETRY into the INIT; the zero one takes it out again.
func (i *Initiator) SetCookie(c wire.Cookie) { i.packet.SetCookie(c) }

// Finish opens a RESP. ErrNotOpened means that it was not from the server, or
// for another attempt: nothing changed, the real one may still come. Any other
// error is the server's doing and ends the attempt. A refusal is a Reply and no
// error.
//
// A server has no preshared key for a client that it does not know, and has to
// tell it so: with a preshared key, Finish takes a refusal that was made without
// one, which only the server can have made. An acceptance without one is
// ErrNoPSK, never a session.
func (i *Initiator) Finish(resp []byte) (*Reply, error) {
	hid, message, err := wire.ParseResp(resp)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	if hid != i.HandshakeID() {
		return nil, fmt.Errorf("%w: it answers another attempt", ErrNotOpened)
	}
	reply, err := i.open(message, i.psk)
	if i.psk.IsZero() || !errors.Is(err, ErrNotOpened) {
		return reply, err
	}
	without, errWithout := i.open(message, PSK{})
	switch {
	case errWithout != nil:
		return nil, err
	case without.Status == wire.StatusAccepted:
		return nil, ErrNoPSK
	}
	return without, nil
}

func (i *Initiator) open(message []byte, psk PSK) (*Reply, error) {
	// Reading a message changes the Noise state even when it fails, for instance
	// on an e of low order. So each try gets a state of its own.
	state, _, err := i.start(psk)
	if err != nil {
		return nil, err
	}
	payload, first, second, err := state.ReadMessage(nil, message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpened, err)
	}
	reply, err := parseReply(payload)
	if err != nil {
		return nil, err
	}
	if reply.Status == wire.StatusAccepted {
		reply.Secrets = secretsOf(first, second)
	}
	return reply, nil
}
