// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/known"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/profile"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// prepare checks and reads everything that the command line and the profile name.
// changed says whether a flag was given.
func (k *connection) prepare(ctx context.Context, server string, o *connectOptions, changed func(string) bool) error {
	p, given, err := o.find(server)
	if err != nil {
		return err
	}
	if err := k.chooseForwards(o, p.Forward); err != nil {
		return err
	}
	k.idle = o.idle
	if p.IdleTimeout != 0 && !changed("idle-timeout") {
		k.idle = p.IdleTimeout
	}
	if k.idle < time.Second {
		return usage("--idle-timeout %v: write at least 1s", k.idle)
	}
	if o.identity != "" {
		p.Identity = o.identity
	}
	if o.pskFile != "" {
		p.PSKFile = o.pskFile
	}
	if p.Identity != "" {
		if k.config.Identity, err = readKeyFile(p.Identity); err != nil {
			return err
		}
	}
	if p.PSKFile != "" {
		if k.config.PSK, err = config.ReadSecret[handshake.PSK](p.PSKFile, "preshared key"); err != nil {
			return err
		}
		if p.Identity == "" {
			return usage("a preshared key without an identity: the server finds it by this client's key; name that with --identity")
		}
	}
	k.config.Server = p.Address
	if k.config.ServerKey, err = k.trust(ctx, o, p.Address, given); err != nil {
		return err
	}
	// A name that does not resolve shows before anything is opened; Dial asks for
	// the addresses again, as they may change.
	if _, err = client.Resolve(ctx, p.Address); err != nil {
		return err
	}
	if k.env.verbose {
		k.config.Log = k.report.logger()
	}
	return nil
}

// givenKey is a server's key as a person has named it.
type givenKey struct {
	key handshake.PublicKey // zero: not at all
	// certain: as a flag or in the user's own file, not as a part of an address that
	// may have come from anywhere.
	certain bool
}

// find makes out what SERVER means.
func (o *connectOptions) find(server string) (p profile.Profile, given givenKey, err error) {
	file := new(profile.File)
	switch path, errPath := o.path(o.profiles, "config.toml"); {
	case errPath == nil:
		if file, err = profile.Read(path); err != nil {
			return p, given, err
		}
	case o.profiles != "":
		return p, given, errPath
	}
	var named bool
	if p, named = file.Profile(server); named {
		given = givenKey{p.ServerKey, true}
	} else {
		p.Address = server
		if i := strings.LastIndexByte(server, '@'); i >= 0 {
			p.Address = server[i+1:]
			if err := given.key.UnmarshalText([]byte(server[:i])); err != nil {
				return p, given, usage("%s: what is before the '@' is no key of a server: %v", server, err)
			}
		}
	}
	if o.serverKey != "" {
		var key handshake.PublicKey
		if err := key.UnmarshalText([]byte(o.serverKey)); err != nil {
			return p, given, usage("--server-key: %v", err)
		}
		if !given.key.IsZero() && given.key != key {
			return p, given, usage("--server-key %v is not the key that %s brings, %v: leave one of them out", key, server, given.key)
		}
		given = givenKey{key, true}
	}
	return p, given, nil
}

// path is a file of the user's, or the one that a flag names in its place.
func (o *connectOptions) path(flag, name string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	directory, err := profile.Directory()
	return filepath.Join(directory, name), err
}

// chooseForwards takes the rules of flags and profile together; -W alone.
func (k *connection) chooseForwards(o *connectOptions, ofProfile []forward.Rule) (err error) {
	if o.stdio != "" {
		if len(o.local) > 0 {
			return usage("-W and -L: stdin and stdout are for one connection; leave one of them out")
		}
		if o.udp {
			return usage("-W and --udp: stdin and stdout are a stream, which only a TCP service can be joined with")
		}
		if k.stdio, err = forward.ParseService(o.stdio, forward.NetworkTCP); err != nil {
			return usage("-W %v", err)
		}
		return nil
	}
	k.rules = ofProfile
	for _, text := range o.local {
		rule, err := forward.ParseRule(text, o.network())
		if err != nil {
			return usage("-L %v", err)
		}
		k.rules = append(k.rules, rule)
	}
	if len(k.rules) == 0 {
		return usage("nothing to forward: name a local port and a service, such as -L 2222:22 or -L 5353:53/udp, or -W 22")
	}
	return nil
}

// trust decides by which key the server must prove itself. One that is neither
// known nor given for certain is asked about on a terminal, and refused elsewhere.
func (k *connection) trust(ctx context.Context, o *connectOptions, server string, given givenKey) (handshake.PublicKey, error) {
	path, err := o.path(o.known, "known_servers")
	if err != nil {
		if given.certain && !given.key.IsZero() {
			return given.key, nil // nowhere to remember it, and no need to
		}
		return given.key, &fault{err: err, fix: "give the server's key by --server-key KEY, or the file of remembered keys by --known-servers FILE"}
	}
	k.known = &known.File{Path: path}
	entries, err := k.known.Lookup(server)
	if err != nil {
		return given.key, err
	}
	if given.key.IsZero() {
		if len(entries) == 0 {
			return given.key, &fault{code: exitUsage, what: fmt.Sprintf("the key of %s is not known yet", server),
				fix: "ask its operator for the public key, which `xdp-roam status` prints there, and give it once: --server-key KEY"}
		}
		return entries[len(entries)-1].Key, nil
	}
	for _, e := range entries {
		if e.Key == given.key {
			return given.key, nil
		}
	}
	if len(entries) > 0 {
		return given.key, &known.ChangedError{Path: path, Known: entries, Key: given.key}
	}
	if !given.certain {
		if err := k.ask(ctx, server, given.key); err != nil {
			return given.key, err
		}
	}
	k.remember = true
	return given.key, nil
}

// ask lets the person at the terminal decide about a server that is new.
func (k *connection) ask(ctx context.Context, server string, key handshake.PublicKey) error {
	if k.stdio != 0 || !isTerminal(k.env.stdin) || !isTerminal(k.env.stderr) {
		return &fault{code: exitUsage, what: fmt.Sprintf("the key of %s is new, and there is no terminal to ask for confirmation", server),
			fix: fmt.Sprintf("if its operator confirms that it is %v, give it once: --server-key %v", key, key)}
	}
	fmt.Fprintf(k.env.stderr, "%s was never used here. Its key is said to be\n  %v\nIs that what its operator says? [yes/no] ", server, key)
	typed := make(chan string, 1)
	go func() { // nothing ends a Read of a terminal, and a signal must end the question
		line, _ := bufio.NewReader(k.env.stdin).ReadString('\n')
		typed <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(k.env.stderr)
		return &fault{what: "the question was not answered", err: ctx.Err()}
	case line := <-typed:
		if a := strings.ToLower(strings.TrimSpace(line)); a == "yes" || a == "y" {
			return nil
		}
	}
	return &fault{what: fmt.Sprintf("the key of %s was not accepted", server), fix: "ask its operator for the public key"}
}

// rememberKey stores the server's key once the server has proven that it has it.
func (k *connection) rememberKey() {
	if !k.remember {
		return
	}
	k.remember = false
	if err := k.known.Add(k.config.Server, k.config.ServerKey); err != nil {
		k.report.message("warning: the key of %s could not be remembered: %v", k.config.Server, err)
		return
	}
	k.report.message("the key of %s is remembered in %s", k.config.Server, k.known.Path)
}

// explain adds what the person can do about an error of a session.
func explain(err error) error {
	var refused *client.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Status == wire.StatusNotAuthorised:
		return &fault{code: exitPermission, err: err, fix: fmt.Sprintf("add this line to the server's authorized_keys: %v NAME", refused.Key)}
	case errors.Is(err, handshake.ErrNoPSK):
		return &fault{code: exitPermission, err: err, fix: "ask the server's operator to add psk= to this client's line in authorized_keys, or omit the preshared key here"}
	}
	return err
}
