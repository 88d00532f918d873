// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// identity is a static key that clients may know the server by. There are two
// while the key is rotated: a client is answered with the one that it asked.
type identity struct {
	mac1      handshake.MAC1Key
	responder *handshake.Responder
	previous  bool
}

func newIdentities(cfg Config) ([]identity, error) {
	var all []identity
	for i, key := range append([]handshake.PrivateKey{cfg.Static}, cfg.Previous...) {
		r, err := handshake.NewResponder(key, cfg.PSK, cfg.Precomputed)
		if err != nil {
			return nil, err
		}
		all = append(all, identity{handshake.NewMAC1Key(key.Public()), r, i > 0})
	}
	return all, nil
}

// addressed returns the identity that an INIT is for, or nil: its sender does
// not know the server.
func (srv *Server) addressed(pkt wire.Init) *identity {
	for i := range srv.identities {
		if srv.identities[i].mac1.Verify(pkt) {
			return &srv.identities[i]
		}
	}
	return nil
}

// mac1Keys are those of all identities, for the data plane.
func (srv *Server) mac1Keys() (keys [][16]byte) {
	for i := range srv.identities {
		keys = append(keys, srv.identities[i].mac1)
	}
	return keys
}
