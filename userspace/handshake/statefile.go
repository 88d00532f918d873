// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// StateSecretFile is the name of the file in the state directory. It holds one
// secret a line, the newest first: the number of its generation and the secret in
// base64. A line without a number is generation 0.
const StateSecretFile = "state-secret"

// ErrStateSecret means that the state secret cannot be used. The error that
// wraps it says why and how to mend it.
var ErrStateSecret = errors.New("state secret")

// LoadState reads the state secrets from their file in the directory dir, which
// it makes, with mode 0700, and fills with a fresh secret when they are not
// there. Errors wrap ErrStateSecret and what the system said.
func LoadState(dir string) (State, error) {
	path := filepath.Join(dir, StateSecretFile)
	s, err := readState(path)
	if errors.Is(err, fs.ErrNotExist) {
		// A link, unlike a rename, fails if the name is taken. So when two processes
		// start at once, both end up with the file of the one that came first.
		place := func(tmp string) error {
			if err := os.Link(tmp, path); !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		}
		if err := writeState(dir, NewState(NewStateSecret()), place); err != nil {
			return State{}, fmt.Errorf("%w: cannot create %s: %w; name another state directory or make this one writable", ErrStateSecret, path, err)
		}
		s, err = readState(path)
	}
	return s, err
}

// SaveState puts the state now in the place of was, complete or not at all. It
// fails, with an error that wraps ErrStateSecret, where the file is not as was
// says: another process has changed it, and must not lose what it did.
func SaveState(dir string, was, now State) error {
	path := filepath.Join(dir, StateSecretFile)
	found, err := readState(path)
	if err != nil {
		return err
	}
	if found != was {
		return fmt.Errorf("%w: another process has changed %s; a restart takes over what it says now", ErrStateSecret, path)
	}
	if err := writeState(dir, now, func(tmp string) error { return os.Rename(tmp, path) }); err != nil {
		return fmt.Errorf("%w: cannot replace %s: %w; make the directory writable", ErrStateSecret, path, err)
	}
	return nil
}

func readState(path string) (State, error) {
	f, err := os.Open(path)
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrStateSecret, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrStateSecret, err)
	}
	// Windows has no such bits; it shows every file as readable by all.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return State{}, fmt.Errorf("%w: %s has mode %04o, so other users can read or change it; "+
			"chmod 600 %s, or delete it if they may have read it", ErrStateSecret, path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024)) // more than four lines have
	if err != nil {
		return State{}, fmt.Errorf("%w: %s cannot be read: %w", ErrStateSecret, path, err)
	}
	s, err := parseState(text)
	if err != nil {
		return State{}, fmt.Errorf("%w: %s: %w", ErrStateSecret, path, err)
	}
	return s, nil
}

// parseState reads lines such as "1 base64", the newest first.
func parseState(text []byte) (s State, err error) {
	const fix = "delete the file to have a fresh one made"
	first := true
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		var generation uint64
		switch len(fields) {
		case 0:
			continue
		case 2:
			if generation, err = strconv.ParseUint(string(fields[0]), 10, 8); err != nil || generation >= Generations {
				return State{}, fmt.Errorf("%q is no generation from 0 to %d; %s", fields[0], Generations-1, fix)
			}
		}
		var secret StateSecret
		if err := parseKey((*[KeyLen]byte)(&secret), fields[len(fields)-1], "a state secret", fix); err != nil {
			return State{}, err
		}
		if s.Holds(uint8(generation)) {
			return State{}, fmt.Errorf("generation %d is there twice; %s", generation, fix)
		}
		s.secrets[generation] = secret
		if first {
			s.newest, first = uint8(generation), false
		}
	}
	if !s.Holds(s.newest) {
		return State{}, fmt.Errorf("there is no secret in it; %s", fix)
	}
	return s, nil
}

func (s State) appendText(b []byte) []byte {
	for age := range uint8(Generations) {
		if g := (s.newest + Generations - age) % Generations; s.Holds(g) {
			b = fmt.Appendf(b, "%d %s\n", g, keyText(s.secrets[g]))
		}
	}
	return b
}

// writeState writes the state beside its file, with mode 0600, and has place put
// it there.
func writeState(dir string, s State, place func(tmp string) error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, StateSecretFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(s.appendText(nil))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return place(tmp.Name())
}
