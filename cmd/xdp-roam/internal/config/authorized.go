// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Authorized maps the public keys that may open sessions to their names.
type Authorized map[handshake.PublicKey]string

// ReadAuthorized reads the file that authorized_keys names.
func ReadAuthorized(name string) (Authorized, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read authorized_keys: %w", err)
	}
	defer file.Close()
	return ParseAuthorized(name, file)
}

// ParseAuthorized reads one key a line: the base64 public key that `pubkey`
// prints, white space, and a name (the rest of the line). Empty lines and
// lines that begin with '#' are skipped. Everything wrong is reported at once,
// each with name:line; a key or a name given twice is wrong, because one of
// the two lines would be forgotten when access is taken away.
func ParseAuthorized(name string, r io.Reader) (Authorized, error) {
	keys := make(Authorized)
	keyLine := make(map[handshake.PublicKey]int)
	nameLine := make(map[string]int)
	var wrong []error
	number := 0
	fail := func(format string, args ...any) {
		wrong = append(wrong, fmt.Errorf("%w: %s:%d: %s", ErrInvalid, name, number, fmt.Sprintf(format, args...)))
	}
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		number++
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, peer := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			text, peer = line[:i], strings.TrimSpace(line[i:])
		}
		var key handshake.PublicKey
		if err := key.UnmarshalText([]byte(text)); err != nil {
			fail("%v", err)
			continue
		}
		switch {
		case peer == "":
			fail("the key has no name; write a name after it")
		case strings.ContainsFunc(peer, func(r rune) bool { return r < ' ' || r == 0x7f }):
			fail("the name %q has control characters in it", peer)
		case keyLine[key] != 0:
			fail("the key of %q is on line %d already, as %q", peer, keyLine[key], keys[key])
		case nameLine[peer] != 0:
			fail("the name %q is on line %d already", peer, nameLine[peer])
		default:
			keys[key], keyLine[key], nameLine[peer] = peer, number, number
		}
	}
	if err := scanner.Err(); err != nil {
		number++
		fail("%v", err)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %s: no key in it, so that nobody could connect; add one, or use allow_anonymous = true", ErrInvalid, name)
	}
	return keys, nil
}
