// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"errors"
	"fmt"
)

// Generations is how many state secrets can be in use at a time: a session id
// has two bits for the number of its own.
const Generations = 4

// ErrGenerations means that a state has no room for another generation.
var ErrGenerations = errors.New("all four generations of the state secret are in use")

// State is the state secrets in use, each with the number of its generation. New
// ids and cookies are made with the newest one; the others live on for the ids
// that they made. It is a plain value: nothing is kept until SaveState.
type State struct {
	secrets [Generations]StateSecret // by generation; zero: not in use
	newest  uint8
}

// NewState returns the state with one secret, of generation 0.
func NewState(s StateSecret) State { return State{secrets: [Generations]StateSecret{s}} }

// IsZero reports whether there is no secret at all.
func (s State) IsZero() bool { return s == State{} }

// Newest returns the generation that new ids carry.
func (s State) Newest() uint8 { return s.newest }

// Holds reports whether a generation is in use.
func (s State) Holds(generation uint8) bool {
	return generation < Generations && s.secrets[generation] != StateSecret{}
}

// Next returns the state with a fresh secret as the next generation. With no
// room it fails with ErrGenerations: one of the others has to go first (Without).
func (s State) Next() (State, error) {
	next := (s.newest + 1) % Generations
	if s.Holds(next) {
		return s, ErrGenerations
	}
	s.secrets[next], s.newest = NewStateSecret(), next
	return s, nil
}

// Without returns the state without a generation: ids that it made are forged
// from then on. The newest one stays.
func (s State) Without(generation uint8) State {
	if generation < Generations && generation != s.newest {
		s.secrets[generation] = StateSecret{}
	}
	return s
}

// IDKey returns the key of the ids of a generation, all zero for one that is not
// in use.
func (s State) IDKey(generation uint8) [16]byte {
	if !s.Holds(generation) {
		return [16]byte{}
	}
	return s.secrets[generation].IDKey(generation)
}

// ResetKey returns the key of the reset tokens of a generation's ids.
func (s State) ResetKey(generation uint8) [32]byte {
	return s.secrets[generation%Generations].ResetKey()
}

// CookieSecret returns the secret for new cookies: the newest generation's.
func (s State) CookieSecret() [32]byte { return s.secrets[s.newest].CookieSecret() }

// String hides the secrets.
func (s State) String() string { return fmt.Sprintf("(state secrets, newest generation %d)", s.newest) }

// GoString hides the secrets from %#v.
func (s State) GoString() string { return s.String() }
