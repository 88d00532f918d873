// SPDX-License-Identifier: Apache-2.0

// Package profile is the client's own file, config.toml in the user's
// configuration directory: named servers, and what connect does with each.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Directory is where a user's files of this program are: xdp-roam in
// $XDG_CONFIG_HOME or ~/.config, ~/Library/Application Support, or %AppData%.
func Directory() (string, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("this user has no configuration directory: %w", err)
	}
	return filepath.Join(base, "xdp-roam"), nil
}

// File is config.toml.
type File struct {
	// Identity is the private key for servers that name none.
	Identity string            `toml:"identity"`
	Servers  map[string]Server `toml:"server"`
}

// Server is what `connect NAME` means. All but Address may be missing.
type Server struct {
	Address     string   `toml:"address"`
	Key         string   `toml:"server_key"`
	Identity    string   `toml:"identity"`
	PSKFile     string   `toml:"psk_file"`
	Forward     []string `toml:"forward"`
	IdleTimeout string   `toml:"idle_timeout"`
}

// Profile is a Server, read and checked.
type Profile struct {
	Address     string
	ServerKey   handshake.PublicKey // zero: the one that is known
	Identity    string              // a file; empty: none
	PSKFile     string              // a file; empty: none
	Forward     []forward.Rule
	IdleTimeout time.Duration // 0: connect's own
}

// Read reads the file name; paths in it are relative to its directory, and "~/" is
// the user's. A file that does not exist is an empty one. Errors of the content wrap
// config.ErrInvalid.
func Read(name string) (*File, error) {
	f := new(File)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the profiles: %w", err)
	}
	if err := config.DecodeStrict(name, string(text), f); err != nil {
		return nil, err
	}
	return f, f.check(name, string(text))
}

// check reads every profile once, so that a mistake in one shows before it is
// needed, and makes paths whole.
func (f *File) check(name, text string) error {
	var wrong []error
	directory := filepath.Dir(name)
	f.Identity = whole(directory, f.Identity)
	for _, server := range f.Names() {
		s := f.Servers[server]
		s.Identity, s.PSKFile = whole(directory, s.Identity), whole(directory, s.PSKFile)
		f.Servers[server] = s
		if key, err := s.check(server); err != nil {
			path := []string{"server", server}
			if key != "" {
				path = append(path, key)
			}
			wrong = append(wrong, fmt.Errorf("%w: %s:%s %w", config.ErrInvalid, name, config.LineOf(text, path...), err))
		}
	}
	return errors.Join(wrong...)
}

// check returns the key that is wrong, and why.
func (s Server) check(name string) (key string, err error) {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, "@:/ \t") {
		return "", fmt.Errorf("%q is no name for a profile: it has no blanks, '@', ':' or '/', and does not begin with '-'", name)
	}
	if s.Address == "" {
		return "", fmt.Errorf("profile %q has no address: write address = \"edge.example.net\"", name)
	}
	_, key, err = s.profile()
	return key, err
}

func (s Server) profile() (p Profile, key string, err error) {
	p = Profile{Address: s.Address, Identity: s.Identity, PSKFile: s.PSKFile}
	switch host, _, err := client.SplitServer(s.Address); {
	case err != nil:
		return p, "address", err
	case strings.ContainsAny(host, "@/ \t"):
		return p, "address", fmt.Errorf("address %q: write the server's name or address alone, with :PORT behind it if need be; its key goes into server_key", s.Address)
	}
	if s.Key != "" {
		if err := p.ServerKey.UnmarshalText([]byte(s.Key)); err != nil {
			return p, "server_key", err
		}
	}
	for _, text := range s.Forward {
		rule, err := forward.ParseRule(text, forward.NetworkTCP)
		if err != nil {
			return p, "forward", err
		}
		p.Forward = append(p.Forward, rule)
	}
	if s.IdleTimeout != "" {
		if p.IdleTimeout, err = time.ParseDuration(s.IdleTimeout); err != nil || p.IdleTimeout < time.Second {
			return p, "idle_timeout", fmt.Errorf("idle_timeout %q: write a time of at least a second, such as \"5m\"", s.IdleTimeout)
		}
	}
	return p, "", nil
}

// Names are the profiles', in order.
func (f *File) Names() []string {
	names := make([]string, 0, len(f.Servers))
	for name := range f.Servers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Profile returns the profile of a name.
func (f *File) Profile(name string) (p Profile, ok bool) {
	s, ok := f.Servers[name]
	if !ok {
		return Profile{}, false
	}
	p, _, _ = s.profile() // Read has checked it
	if p.Identity == "" {
		p.Identity = f.Identity
	}
	return p, true
}

// whole makes the path of a file whole; an empty one stays empty.
func whole(directory, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return filepath.Join(directory, path)
}
