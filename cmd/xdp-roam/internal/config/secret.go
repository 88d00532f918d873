// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// SecretError says why a file with a secret is not used, and what to do.
type SecretError struct {
	text, fix string
	kind      error // what it is to errors.Is, beside err; or nil
	err       error
}

func (e *SecretError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

// Fix is what the person can do about it.
func (e *SecretError) Fix() string { return e.fix }

// Is makes a file without a key ErrInvalid, and one that everyone can read
// fs.ErrPermission.
func (e *SecretError) Is(target error) bool { return e.kind != nil && target == e.kind }

// Unwrap returns what the system or the parser said.
func (e *SecretError) Unwrap() error { return e.err }

// secret is a key of package handshake.
type secret[T any] interface {
	*T
	encoding.TextUnmarshaler
	IsZero() bool
}

// maxSecret is more than the text of a key has, in bytes.
const maxSecret = 1024

// ReadSecret reads a key in base64 from a file; what says in errors which kind of
// key. A file that every user of the machine can read holds no secret, so it is
// refused (fs.ErrPermission).
func ReadSecret[T any, P secret[T]](name, what string) (key T, err error) {
	file, err := openSecret(name, what)
	if err != nil {
		return key, err
	}
	defer file.Close()
	key, err = ParseSecret[T, P](file)
	if err != nil {
		return key, &SecretError{text: name + " holds no " + what, kind: ErrInvalid, err: err}
	}
	return key, nil
}

// ParseSecret reads a key in base64 that is not zero.
func ParseSecret[T any, P secret[T]](r io.Reader) (key T, err error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSecret))
	if err != nil {
		return key, err
	}
	if err := P(&key).UnmarshalText(text); err != nil {
		return key, err
	}
	if P(&key).IsZero() {
		return key, fmt.Errorf("%w: all its bytes are zero", handshake.ErrBadKey)
	}
	return key, nil
}

// makeSecret is the command, without the file's name, that makes each kind of secret.
var makeSecret = map[string]string{
	"private key": "xdp-roam keygen -o ", "preshared key": "xdp-roam genpsk -o ", metricsToken: "umask 077; openssl rand -hex 32 > ",
}

// openSecret opens a file that not everyone must be able to read.
func openSecret(name, what string) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		e := &SecretError{text: "cannot read the " + what, err: err}
		if errors.Is(err, fs.ErrNotExist) {
			e.fix = makeSecret[what] + name
		}
		return nil, e
	}
	info, err := file.Stat()
	if err != nil {
		err = &SecretError{text: "cannot read the " + what, err: err}
	} else if runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 { // Windows has no such bits; Go makes them up
		err = &SecretError{text: fmt.Sprintf("the %s %s can be read by everyone (mode %04o)", what, name, info.Mode().Perm()), fix: "chmod 600 " + name, kind: fs.ErrPermission}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
