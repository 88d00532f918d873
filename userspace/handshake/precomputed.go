// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"sync/atomic"

	"github.com/flynn/noise"
)

// Precomputed is room for what every handshake of a client has in common with its
// next one: the Diffie-Hellman result of both static keys (Noise's ss), a quarter of
// what a handshake costs the server. WireGuard keeps the same for each peer.
//
// Whoever decides which clients are known keeps one for each of them, empty at first,
// and drops it with the key: what is kept never grows beyond that. The zero value
// is empty; all may use it concurrently.
type Precomputed struct {
	secret atomic.Pointer[staticSecret]
}

// staticSecret is of one of the server's keys: while that is rotated there are two,
// and a client that comes by the other one has it replaced.
type staticSecret struct {
	of     *Responder
	shared [KeyLen]byte
}

func (p *Precomputed) recall(r *Responder) []byte {
	if s := p.secret.Load(); s != nil && s.of == r {
		return s.shared[:]
	}
	return nil
}

// precomputedDH is the dh of a responder that knows some of its clients.
type precomputedDH struct {
	*dh
	responder *Responder
	state     *noise.HandshakeState
	// room is that of the client, once it has said who it is, and shared what is to
	// be kept there; nil where there is none, or it has been there already.
	room   *Precomputed
	shared []byte
}

func (d *precomputedDH) DH(private, public []byte) ([]byte, error) {
	if d.responder.known == nil || private[0] != handleStatic || !bytes.Equal(public, d.state.PeerStatic()) {
		return d.dh.DH(private, public)
	}
	room := d.responder.known(PublicKey(public))
	if room == nil {
		return d.dh.DH(private, public)
	}
	if shared := room.recall(d.responder); shared != nil {
		return shared, nil
	}
	shared, err := d.dh.DH(private, public)
	if err == nil {
		d.room, d.shared = room, shared
	}
	return shared, err
}

// keep is for an INIT that opened: before, anyone may have sent it.
func (d *precomputedDH) keep() {
	if d.room != nil {
		d.room.secret.Store(&staticSecret{d.responder, [KeyLen]byte(d.shared)})
	}
}
