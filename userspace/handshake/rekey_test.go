// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"
)

type rekeyVector struct {
	ClientE     string `json:"client_e_private"`
	ServerE     string `json:"server_e_private"`
	Epoch       uint32
	ClientFirst uint32 `json:"first_seq_client_ids"`
	C2S         string `json:"k_c2s"`
	S2C         string `json:"k_s2c"`
	Message1    string `json:"message_1"`
	Message2    string `json:"message_2"`
	Name        string
	Prologue    string
	PSK         string
}

// rekeyVectors returns the group and the secrets of the epoch before it.
func rekeyVectors(t *testing.T) (v rekeyVector, before Secrets) {
	t.Helper()
	var file struct {
		Rekey     rekeyVector
		Handshake struct {
			C2S string `json:"k_c2s"`
			S2C string `json:"k_s2c"`
		}
	}
	if err := json.Unmarshal(vectorsFile(t), &file); err != nil {
		t.Fatal(err)
	}
	copy(before.C2S[:], unhex(t, file.Handshake.C2S))
	copy(before.S2C[:], unhex(t, file.Handshake.S2C))
	return file.Rekey, before
}

// Every byte of the group `rekey` comes out of both roles.
func TestVectorRekey(t *testing.T) {
	v, before := rekeyVectors(t)
	if got := "Noise_NNpsk0_25519_AESGCM_SHA256"; v.Name != got {
		t.Errorf("the vectors are of %s, the code of %s", v.Name, got)
	}
	if got := hex.EncodeToString(rekeyPrologue(v.Epoch, v.ClientFirst)); got != v.Prologue {
		t.Errorf("prologue %s, want %s", got, v.Prologue)
	}
	if psk := rekeyPSK(before, v.Epoch); hex.EncodeToString(psk[:]) != v.PSK {
		t.Errorf("psk %x, want %s", psk, v.PSK)
	}
	r, err := NewRekey(before, v.Epoch, v.ClientFirst, bytes.NewReader(unhex(t, v.ClientE)))
	if err != nil {
		t.Fatal(err)
	}
	m1 := r.Message()
	if hex.EncodeToString(m1[:]) != v.Message1 {
		t.Errorf("message 1 %x, want %s", m1, v.Message1)
	}
	m2, server, err := AnswerRekey(before, v.Epoch, v.ClientFirst, m1, bytes.NewReader(unhex(t, v.ServerE)))
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(m2[:]) != v.Message2 {
		t.Errorf("message 2 %x, want %s", m2, v.Message2)
	}
	client, err := r.Finish(m2)
	if err != nil {
		t.Fatal(err)
	}
	if client != server {
		t.Error("the two ends have other secrets")
	}
	if hex.EncodeToString(client.C2S[:]) != v.C2S || hex.EncodeToString(client.S2C[:]) != v.S2C {
		t.Errorf("secrets %x %x, want %s %s", client.C2S, client.S2C, v.C2S, v.S2C)
	}
}

// A rekey is bound to its epoch, to its first seq, and to the secrets before it.
func TestRekeyBinding(t *testing.T) {
	before := Secrets{C2S: [32]byte{1}, S2C: [32]byte{2}}
	r, err := NewRekey(before, 1, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := r.Message()
	damaged := m
	damaged[47] ^= 1
	lowOrder := RekeyMessage{}
	copy(lowOrder[32:], m[32:])
	for name, try := range map[string]func() error{
		"other epoch":   func() error { _, _, err := AnswerRekey(before, 2, 5, m, nil); return err },
		"other seq":     func() error { _, _, err := AnswerRekey(before, 1, 6, m, nil); return err },
		"other secrets": func() error { _, _, err := AnswerRekey(Secrets{C2S: [32]byte{1}}, 1, 5, m, nil); return err },
		"damaged":       func() error { _, _, err := AnswerRekey(before, 1, 5, damaged, nil); return err },
		"low order":     func() error { _, _, err := AnswerRekey(before, 1, 5, lowOrder, nil); return err },
		"own message":   func() error { _, err := r.Finish(m); return err },
	} {
		if err := try(); !errors.Is(err, ErrNotOpened) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r1, _ := NewRekey(before, 1, 5, nil)
	answer, _, err := AnswerRekey(before, 1, 5, r1.Message(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer[0] ^= 1
	if _, err := r1.Finish(answer); !errors.Is(err, ErrNotOpened) {
		t.Errorf("damaged answer: %v", err)
	}
	if _, err := NewRekey(before, 1, 5, bytes.NewReader(nil)); err == nil {
		t.Error("a rekey without randomness")
	}
}
