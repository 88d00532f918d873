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

// Measure gives row 16.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	static := handshake.NewPrivateKey()
	responder, err := handshake.NewResponder(static, handshake.PSK{})
	if err != nil {
		return r, err
	}
	client, err := handshake.NewInitiator(handshake.ClientConfig{
		Server: static.Public(), NewIDs: [3]handshake.NewID{{Seq: 0, ID: wire.ID{1}}, {Seq: 1, ID: wire.ID{2}}, {Seq: 2, ID: wire.ID{3}}},
	})
	if err != nil {
		return r, err
	}
	acceptance := handshake.Acceptance{Observed: netip.MustParseAddrPort("192.0.2.10:40000")}
	ours := func() error {
		q, err := responder.Open(client.Packet())
		if err != nil {
			return err
		}
		_, _, err = q.Accept(acceptance)
		return err
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
	runs, err := report.Alternate(ctx, o.Pairs, timed(ours), timed(stock))
	if err != nil {
		return r, err
	}
	r.Add(report.AtLeast(16, "handshakes for each core / flynn/noise responder", "x", report.Ratios(runs[1], runs[0]), 1.9).
		Against("flynn/noise", "us", runs[1], runs[0]))
	return r, nil
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
