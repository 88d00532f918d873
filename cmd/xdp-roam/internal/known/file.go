// SPDX-License-Identifier: Apache-2.0

// Package known remembers by which public key a client knows its servers, as ssh's
// known_hosts does. ROAM/1 cannot ask a server for its key: INIT needs it. So a
// person names it once, and from then on another key for that server is refused.
package known

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// ErrInvalid means that the file has a line that is not understood. It is never
// skipped: behind it may be the key of the server that is asked for.
var ErrInvalid = errors.New("invalid known_servers")

// File is a known_servers: a line for each server and key,
//
//	edge.example.net:7626 BASE64KEY
//
// with empty lines and lines that begin with '#' between. Several processes may
// use it at a time: who changes it locks it and puts a whole new file in its place.
type File struct{ Path string }

// Entry is one line.
type Entry struct {
	Server string // as Name returns it
	Key    handshake.PublicKey
	Line   int
}

// Name is the name that a server has in the file, whatever way it was written:
// host:port, the host in lower case or as an address.
func Name(server string) (string, error) {
	host, port, err := client.SplitServer(server)
	if err != nil {
		return "", err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	} else {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r == ' ' || r == '#' || !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("%w: server %q: a name has no blanks", client.ErrConfig, server)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// List returns all entries in their order; none if there is no file.
func (f *File) List() ([]Entry, error) {
	text, err := f.read()
	if err != nil {
		return nil, err
	}
	return f.parse(text)
}

// Lookup returns the entries of a server, named in any way that Name takes.
func (f *File) Lookup(server string) ([]Entry, error) {
	name, err := Name(server)
	if err != nil {
		return nil, err
	}
	all, err := f.List()
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, e := range all {
		if e.Server == name {
			found = append(found, e)
		}
	}
	return found, nil
}

// ErrChanged is what a ChangedError is.
var ErrChanged = errors.New("the server is known by another key")

// ChangedError says that a server is known by other keys than the one it is now
// said to have.
type ChangedError struct {
	Path  string
	Known []Entry // at least one
	Key   handshake.PublicKey
}

func (e *ChangedError) Error() string {
	last := e.Known[len(e.Known)-1]
	return fmt.Sprintf("the key of %s is not the one that it had: %s:%d has %v, and now it is said to be %v. "+
		"Either its operator has changed the key, or someone else wants to be taken for it", last.Server, e.Path, last.Line, last.Key, e.Key)
}

// Is makes errors.Is find ErrChanged.
func (e *ChangedError) Is(target error) bool { return target == ErrChanged }

// Fix is what the person can do about it.
func (e *ChangedError) Fix() string {
	return fmt.Sprintf("ask the operator; if the new key is right, `xdp-roam known forget %s` and connect again", e.Known[0].Server)
}

// Add remembers a server's key. It fails with a *ChangedError if the file has
// others for that server by now, and does nothing if it has this one.
func (f *File) Add(server string, key handshake.PublicKey) error {
	name, err := Name(server)
	if err != nil {
		return err
	}
	return f.change(func(text []byte) ([]byte, error) {
		entries, err := f.parse(text)
		if err != nil {
			return nil, err
		}
		var others []Entry
		for _, e := range entries {
			switch {
			case e.Server != name:
			case e.Key == key:
				return nil, nil
			default:
				others = append(others, e)
			}
		}
		if len(others) > 0 {
			return nil, &ChangedError{f.Path, others, key}
		}
		if n := len(text); n > 0 && text[n-1] != '\n' {
			text = append(text, '\n')
		}
		return fmt.Appendf(text, "%s %v\n", name, key), nil
	})
}

// Forget drops all keys of a server and returns how many there were.
func (f *File) Forget(server string) (n int, err error) {
	name, err := Name(server)
	if err != nil {
		return 0, err
	}
	err = f.change(func(text []byte) ([]byte, error) {
		entries, err := f.parse(text)
		if err != nil {
			return nil, err
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		for _, e := range entries {
			if e.Server == name {
				lines[e.Line-1] = nil
				n++
			}
		}
		if n == 0 {
			return nil, nil
		}
		return bytes.Join(lines, nil), nil
	})
	return n, err
}

func (f *File) read() ([]byte, error) {
	text, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (f *File) parse(text []byte) ([]Entry, error) {
	var entries []Entry
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		bad := func(format string, args ...any) error {
			return fmt.Errorf("%w: %s:%d: %s; a line is SERVER KEY", ErrInvalid, f.Path, number, fmt.Sprintf(format, args...))
		}
		if len(words) != 2 {
			return nil, bad("%d words", len(words))
		}
		name, err := Name(words[0])
		if err != nil {
			return nil, bad("%v", err)
		}
		e := Entry{Server: name, Line: number}
		if err := e.Key.UnmarshalText([]byte(words[1])); err != nil {
			return nil, bad("%v", err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// change puts what edit makes of the text in the place of the file; nil: nothing.
func (f *File) change(edit func(text []byte) ([]byte, error)) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return err
	}
	unlock, err := lock(f.Path + ".lock")
	if err != nil {
		return fmt.Errorf("cannot lock %s: %w", f.Path, err)
	}
	defer unlock()
	text, err := f.read()
	if err != nil {
		return err
	}
	next, err := edit(text)
	if next == nil || err != nil {
		return err
	}
	return f.replace(next)
}

// replace writes a file of the owner's alone and renames it into place.
func (f *File) replace(text []byte) error {
	path := f.Path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // keep the link of those who keep their files elsewhere
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".known_servers-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name())
	}
	return err
}
