// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// RekeyMessage is a Noise message of REKEY_INIT or REKEY_RESP.
type RekeyMessage = [wire.RekeyNoiseLen]byte

// Rekey is the client's half of a rekey, Noise NNpsk0 inside of a session, which
// gives it forward secrecy: fresh ephemeral keys, bound by the preshared key to
// the secrets that they replace. It holds private keys until it is dropped.
type Rekey struct {
	state   *noise.HandshakeState
	message RekeyMessage
}

// NewRekey begins the rekey that leads to epoch. current are the secrets of the
// epoch before it; firstSeq is the first of the client's ids that the new ones
// belong to. A nil random is crypto/rand.
func NewRekey(current Secrets, epoch, firstSeq uint32, random io.Reader) (*Rekey, error) {
	state, err := rekeyState(current, epoch, firstSeq, random, true)
	if err != nil {
		return nil, err
	}
	r := &Rekey{state: state}
	_, _, _, err = state.WriteMessage(r.message[:0], nil)
	if err != nil {
		return nil, fmt.Errorf("begin a rekey: %w", err)
	}
	return r, nil
}

// Message is what REKEY_INIT carries.
func (r *Rekey) Message() RekeyMessage { return r.message }

// Finish reads the server's answer, once. It fails with ErrNotOpened if the
// server did not compute the same.
func (r *Rekey) Finish(answer RekeyMessage) (Secrets, error) {
	_, first, second, err := r.state.ReadMessage(nil, answer[:])
	if err != nil {
		return Secrets{}, fmt.Errorf("%w: REKEY_RESP: %w", ErrNotOpened, err)
	}
	return secretsOf(first, second), nil
}

// AnswerRekey is the server's half: it reads the client's message and returns the
// answer and the secrets of the new epoch. See NewRekey for the arguments. It
// fails with ErrNotOpened if the message was not made for them. It costs two
// scalar multiplications.
func AnswerRekey(current Secrets, epoch, firstSeq uint32, message RekeyMessage, random io.Reader) (answer RekeyMessage, s Secrets, err error) {
	state, err := rekeyState(current, epoch, firstSeq, random, false)
	if err != nil {
		return answer, s, err
	}
	if _, _, _, err := state.ReadMessage(nil, message[:]); err != nil {
		return answer, s, fmt.Errorf("%w: REKEY_INIT: %w", ErrNotOpened, err)
	}
	_, first, second, err := state.WriteMessage(answer[:0], nil)
	if err != nil {
		return answer, s, fmt.Errorf("answer a rekey: %w", err)
	}
	return answer, secretsOf(first, second), nil
}

func rekeyState(current Secrets, epoch, firstSeq uint32, random io.Reader, initiator bool) (*noise.HandshakeState, error) {
	if random == nil {
		random = rand.Reader
	}
	psk := rekeyPSK(current, epoch)
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           newSuite(newDH(nil)),
		Random:                random,
		Pattern:               noise.HandshakeNN,
		Initiator:             initiator,
		Prologue:              rekeyPrologue(epoch, firstSeq),
		PresharedKey:          psk[:],
		PresharedKeyPlacement: 0,
	})
	if err != nil {
		return nil, fmt.Errorf("begin a rekey: %w", err)
	}
	return state, nil
}

const rekeyLabel = "roam1 rekey"

func rekeyPrologue(epoch, firstSeq uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte(rekeyLabel), epoch), firstSeq)
}

// rekeyPSK ties an epoch to the one before it.
func rekeyPSK(current Secrets, epoch uint32) [32]byte {
	both := sha256.Sum256(append(current.C2S[:], current.S2C[:]...))
	return [32]byte(expand(both, string(binary.BigEndian.AppendUint32([]byte(rekeyLabel), epoch)), 32))
}
