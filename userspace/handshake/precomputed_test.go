// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"sync"
	"testing"
)

// knowing is a responder that knows one client.
func knowing(t testing.TB, server PrivateKey, client PublicKey, room *Precomputed) *Responder {
	t.Helper()
	r, err := NewResponder(server, PSK{}, func(key PublicKey) *Precomputed {
		if key == client {
			return room
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func initOf(t testing.TB, server PublicKey, client PrivateKey) *Initiator {
	t.Helper()
	i, err := NewInitiator(ClientConfig{Static: client, Server: server, NewIDs: testIDs()})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// open does a whole handshake.
func open(t *testing.T, r *Responder, i *Initiator) {
	t.Helper()
	q, err := r.Open(i.Packet())
	if err != nil {
		t.Fatal(err)
	}
	resp, secrets, err := q.Accept(testAcceptance())
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := i.Finish(resp); err != nil || reply.Secrets != secrets {
		t.Fatalf("the client does not agree: %v", err)
	}
}

// The first handshake fills the room and the next one uses what is there: with
// another secret in it, no INIT opens.
func TestPrecomputed(t *testing.T) {
	server, client := NewPrivateKey(), NewPrivateKey()
	var room Precomputed
	r := knowing(t, server, client.Public(), &room)
	open(t, r, initOf(t, server.Public(), client))
	kept := room.secret.Load()
	if kept == nil {
		t.Fatal("nothing was kept")
	}
	open(t, r, initOf(t, server.Public(), client))
	if room.secret.Load() != kept {
		t.Error("the second handshake computed it again")
	}
	open(t, r, initOf(t, server.Public(), NewPrivateKey()))
	if room.secret.Load() != kept {
		t.Error("a stranger changed what is kept for a client")
	}
	room.secret.Store(&staticSecret{of: r})
	if _, err := r.Open(initOf(t, server.Public(), client).Packet()); err == nil {
		t.Error("what is kept is not used")
	}
}

// Whoever knows the server's key can write an INIT that names a client of his choice,
// but none that opens: it changes nothing.
func TestPrecomputedByForgery(t *testing.T) {
	server, client := NewPrivateKey(), NewPrivateKey()
	var room Precomputed
	r := knowing(t, server, client.Public(), &room)
	forged := bytes.Clone(initOf(t, server.Public(), client).Packet())
	forged[200] ^= 1 // in the payload, which only the client's private key seals
	if _, err := r.Open(forged); err == nil {
		t.Fatal("a forged INIT opens")
	}
	if room.secret.Load() != nil {
		t.Error("an INIT that does not open was remembered")
	}
	// The client's key as the Noise e comes to the same function, before s.
	copy(forged[48:], func() []byte { k := client.Public(); return k[:] }())
	if _, err := r.Open(forged); err == nil || room.secret.Load() != nil {
		t.Error("a client's key in the place of e was taken for the client")
	}
}

// While the server's key is rotated, a client may come by either.
func TestPrecomputedOfTwoKeys(t *testing.T) {
	now, previous, client := NewPrivateKey(), NewPrivateKey(), NewPrivateKey()
	var room Precomputed
	for range 2 {
		for _, key := range []PrivateKey{previous, now} {
			open(t, knowing(t, key, client.Public(), &room), initOf(t, key.Public(), client))
		}
	}
}

func TestPrecomputedConcurrently(t *testing.T) {
	server, client := NewPrivateKey(), NewPrivateKey()
	var room Precomputed
	r := knowing(t, server, client.Public(), &room)
	packet := initOf(t, server.Public(), client).Packet()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := r.Open(packet); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
