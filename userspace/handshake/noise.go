// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"crypto/ecdh"
	"io"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// pskPlacement makes IK into IKpsk2. The preshared key is set even when it is
// all zero, and before message 1: without it flynn/noise computes message 1
// differently and says nothing.
const pskPlacement = 2

// prologue binds the Noise messages to the cleartext header of INIT.
func prologue(header []byte) []byte {
	return append([]byte("roam1"), header...)
}

// suite is Noise's 25519_AESGCM_SHA256 for one handshake.
type suite struct {
	noise.DHFunc
	noise.CipherFunc
	noise.HashFunc
}

func newSuite(d noise.DHFunc) suite { return suite{d, noise.CipherAESGCM, noise.HashSHA256} }

func (suite) Name() []byte { return []byte("25519_AESGCM_SHA256") }

// dh is X25519 over parsed keys. flynn/noise keeps keys as bytes, and parsing a
// private key computes its public key, which would double the price of each
// handshake. So it gets handles, one byte long, in place of the private keys.
type dh struct {
	keys [2]*ecdh.PrivateKey // by handle
	// server, if set, is the public key that known holds results with, by handle.
	// It lets a client run message 1 again at the price of its hashes.
	server []byte
	known  [2][]byte
}

const (
	handleStatic = iota
	handleEphemeral
)

func newDH(static *ecdh.PrivateKey) *dh {
	return &dh{keys: [2]*ecdh.PrivateKey{handleStatic: static}}
}

func (d *dh) key(handle byte) noise.DHKey {
	return noise.DHKey{Private: []byte{handle}, Public: d.keys[handle].PublicKey().Bytes()}
}

// GenerateKeypair makes the ephemeral key, once: a dh serves one handshake.
func (d *dh) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	if d.keys[handleEphemeral] == nil {
		var raw PrivateKey
		if _, err := io.ReadFull(random, raw[:]); err != nil {
			return noise.DHKey{}, err
		}
		key, err := ecdh.X25519().NewPrivateKey(raw[:])
		if err != nil {
			return noise.DHKey{}, err
		}
		d.keys[handleEphemeral] = key
	}
	return d.key(handleEphemeral), nil
}

// DH fails for a public key of low order, all zero among them: its result would
// not depend on our key.
func (d *dh) DH(private, public []byte) ([]byte, error) {
	handle := private[0]
	memo := d.server != nil && bytes.Equal(public, d.server)
	if memo && d.known[handle] != nil {
		return d.known[handle], nil
	}
	peer, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	shared, err := d.keys[handle].ECDH(peer)
	if err != nil {
		return nil, err
	}
	if memo {
		d.known[handle] = shared
	}
	return shared, nil
}

func (*dh) DHLen() int     { return wire.EphemeralLen }
func (*dh) DHName() string { return "25519" }

// Secrets are the direction secrets of a session: C2S for packets from client to
// server, S2C for the others.
type Secrets struct{ C2S, S2C [32]byte }

// secretsOf takes the direction secrets from the two results of Noise's Split,
// which come in the same order on both sides.
func secretsOf(first, second *noise.CipherState) Secrets {
	return Secrets{C2S: first.UnsafeKey(), S2C: second.UnsafeKey()}
}
