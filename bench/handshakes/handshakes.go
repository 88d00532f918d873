// SPDX-License-Identifier: Apache-2.0

// Package handshakes measures what a handshake costs the server: row 16 of the goals in
// docs/BENCHMARKS.md. The peer is flynn/noise as it comes, with the same pattern and
// the same cipher suite over the same packet.
package handshakes

import (
	"context"
	"crypto/ecdh"
	"net/netip"
	"time"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Options are how much is measured.
type Options struct {
	Pairs      int // alternating runs of each measurement
	Handshakes int // in each run
}

// replyPayload is as long as that of a RESP, roughly: its hash costs next to nothing.
const replyPayload = 120

// Measure gives row 16, for clients that have been here before, and beside it what the
// first handshake of a client costs.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	static := handshake.NewPrivateKey()
	client, err := handshake.NewInitiator(handshake.ClientConfig{
		Server: static.Public(), NewIDs: [3]handshake.NewID{{Seq: 0, ID: wire.ID{1}}, {Seq: 1, ID: wire.ID{2}}, {Seq: 2, ID: wire.ID{3}}},
	})
	if err != nil {
		return r, err
	}
	var room handshake.Precomputed
	known, err := newOurs(static, client.Packet(), func(handshake.PublicKey) *handshake.Precomputed { return &room })
	if err != nil {
		return r, err
	}
	first, err := newOurs(static, client.Packet(), func(handshake.PublicKey) *handshake.Precomputed { return new(handshake.Precomputed) })
	if err != nil {
		return r, err
	}
	stock, err := newStock(static, client.Packet())
	if err != nil {
		return r, err
	}
	timed := func(one func() error) func() (float64, error) {
		return func() (float64, error) {
			start := time.Now()
			for range o.Handshakes {
				if err := one(); err != nil {
					return 0, err
				}
			}
			return time.Since(start).Seconds() * 1e6 / float64(o.Handshakes), nil
		}
	}
	runs, err := report.Alternate(ctx, o.Pairs, timed(known), timed(first), timed(stock))
	if err != nil {
		return r, err
	}
	r.Add(report.AtLeast(16, "CPU time per handshake, client known: flynn/noise responder / ours", "x", report.Ratios(runs[2], runs[0]), 1.9).
		Against("flynn/noise", "us", runs[2], runs[0]))
	r.AddAside(report.Beside(16, "the same, a client's first handshake", "x", report.Ratios(runs[2], runs[1])).
		Against("flynn/noise", "us", runs[2], runs[1]))
	return r, nil
}

// newOurs is a responder of the product and what it does with a handshake.
func newOurs(static handshake.PrivateKey, packet []byte, known func(handshake.PublicKey) *handshake.Precomputed) (func() error, error) {
	responder, err := handshake.NewResponder(static, handshake.PSK{}, known)
	if err != nil {
		return nil, err
	}
	acceptance := handshake.Acceptance{Observed: netip.MustParseAddrPort("192.0.2.10:40000")}
	return func() error {
		q, err := responder.Open(packet)
		if err != nil {
			return err
		}
		_, _, err = q.Accept(acceptance)
		return err
	}, nil
}

// newStock is a responder by flynn/noise alone: Noise_IKpsk2_25519_AESGCM_SHA256.
func newStock(static handshake.PrivateKey, packet []byte) (func() error, error) {
	key, err := ecdh.X25519().NewPrivateKey(static[:])
	if err != nil {
		return nil, err
	}
	config := noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256),
		Pattern:     noise.HandshakeIK, PresharedKey: make([]byte, handshake.KeyLen), PresharedKeyPlacement: 2,
		StaticKeypair: noise.DHKey{Private: key.Bytes(), Public: key.PublicKey().Bytes()},
	}
	init := wire.Init(packet)
	config.Prologue = append([]byte("roam1"), init.Header()...) // docs/PROTOCOL.md
	payload := make([]byte, replyPayload)
	return func() error {
		state, err := noise.NewHandshakeState(config)
		if err != nil {
			return err
		}
		if _, _, _, err := state.ReadMessage(nil, init.Noise()); err != nil {
			return err
		}
		_, _, _, err = state.WriteMessage(nil, payload)
		return err
	}, nil
}
