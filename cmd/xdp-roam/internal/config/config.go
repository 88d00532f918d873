// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration of `xdp-roam run`: the TOML file, the
// defaults, the checks that file and flags share, and the list of authorised
// keys. An error names the key, says what is wrong with it, and what to write.
package config

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// ErrInvalid is wrapped by every error of this package that says that a
// configuration was read and is wrong.
var ErrInvalid = errors.New("invalid configuration")

// Config is what `run` is told. Flags override the file, the file overrides
// Default.
type Config struct {
	// Listen is the UDP address, "[ADDR]:PORT"; no ADDR means every address of both families.
	Listen string `toml:"listen"`
	// Interfaces get the XDP program; none means that the socket program steers alone.
	Interfaces []string `toml:"interfaces"`
	Mode       Mode     `toml:"mode"`
	// KeyFile holds the server's private key as `keygen` writes it.
	KeyFile string `toml:"key_file"`
	// PreviousKeyFile holds the key before it: while the key is rotated, clients
	// that know the server by either are served. Empty: none.
	PreviousKeyFile string `toml:"previous_key_file"`
	// Addresses are where clients can reach the server, "ADDR" or "ADDR:PORT": they
	// are told, and go to another one when the one that they use fails.
	Addresses []string `toml:"addresses"`
	// AuthorizedKeys is the file that ParseAuthorized reads; exclusive with AllowAnonymous.
	AuthorizedKeys string `toml:"authorized_keys"`
	AllowAnonymous bool   `toml:"allow_anonymous"`
	// StateDir keeps the state secret across restarts.
	StateDir string `toml:"state_dir"`
	// TableSlots is the size of the session table; about a fifth of it is the number of sessions.
	TableSlots uint32 `toml:"table_slots"`
	// Cookie is auto, always or never: when a client must prove its address before a handshake.
	Cookie string `toml:"cookie"`
	// Instance names the pins and the control socket, so that several edges can share a host.
	Instance string `toml:"instance"`
	// Metrics is where numbers of the edge can be had over TCP.
	Metrics  Metrics   `toml:"metrics"`
	Services []Service `toml:"service"`
}

// Default is the configuration before the file and the flags.
func Default() Config {
	return Config{
		Listen:     ":7626",
		Mode:       ModeAuto,
		StateDir:   "/var/lib/xdp-roam",
		TableSlots: 1 << 20,
		Cookie:     "auto",
		Instance:   DefaultInstance,
	}
}

// DefaultInstance is the instance that every command means when it names none.
const DefaultInstance = "default"

// maxAddresses is how many addresses a client can be told.
const maxAddresses = 8

// The slots a session table may have; a power of two between them.
const (
	MinTableSlots = 1 << 6
	MaxTableSlots = 1 << 28
)

// Mode says how packets are steered to their sessions.
type Mode string

// The modes, best first; ModeAuto takes the best that the machine can do and says why.
const (
	ModeAuto    Mode = "auto"
	ModeAFXDP   Mode = "afxdp"   // XDP in the driver, AF_XDP sockets behind it
	ModeXDP     Mode = "xdp"     // XDP in the driver and the socket program
	ModeGeneric Mode = "generic" // XDP in the stack: works on every NIC, slower
	ModeSocket  Mode = "socket"  // the socket program alone
	ModeNone    Mode = "none"    // no BPF, no privileges: plain sockets
)

var modes = []string{string(ModeAuto), string(ModeAFXDP), string(ModeXDP), string(ModeGeneric), string(ModeSocket), string(ModeNone)}

// Address is Listen as an address; its unspecified address is IPv6 and means both families.
func (c *Config) Address() (netip.AddrPort, error) {
	text := c.Listen
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}, invalid("listen", "%q is not an address and a port; write %q, %q or %q",
			c.Listen, ":7626", "192.0.2.1:7626", "[2001:db8::1]:7626")
	}
	return address, nil
}

// ServerAddresses is Addresses as addresses, on the port of Listen where they name none.
func (c *Config) ServerAddresses() ([]netip.AddrPort, error) {
	listen, err := c.Address()
	if err != nil {
		return nil, err
	}
	if len(c.Addresses) > maxAddresses {
		return nil, invalid("addresses", "%d of them; clients can be told %d", len(c.Addresses), maxAddresses)
	}
	var list []netip.AddrPort
	for _, text := range c.Addresses {
		address, err := netip.ParseAddrPort(text)
		if err != nil {
			var addr netip.Addr
			addr, err = netip.ParseAddr(strings.Trim(text, "[]"))
			address = netip.AddrPortFrom(addr, listen.Port())
		}
		ip := address.Addr()
		switch {
		case err != nil:
			return nil, invalid("addresses", "%q is not an address; write %q, %q or %q", text, "192.0.2.1", "192.0.2.1:7626", "2001:db8::1")
		case address.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "":
			return nil, invalid("addresses", "%q is nothing that a client can send to; write an address of this server as clients see it", text)
		case slices.Contains(list, address):
			return nil, invalid("addresses", "%q is there twice", text)
		}
		list = append(list, address)
	}
	return list, nil
}

// Validate checks everything that can be checked without looking outside the
// configuration, and returns all that is wrong at once. checkService judges
// one service's backend and limits.
func (c *Config) Validate(checkService func(Service) error) error {
	var wrong []error
	add := func(err error) {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	_, err := c.Address()
	add(err)
	if err == nil {
		_, err = c.ServerAddresses()
		add(err)
	}
	add(c.checkInterfaces())
	add(oneOf("mode", string(c.Mode), modes))
	add(oneOf("cookie", c.Cookie, []string{"auto", "always", "never"}))
	if c.KeyFile == "" {
		add(invalid("key_file", "not set; create one with `xdp-roam keygen -o server.key` and set it"))
	}
	if c.PreviousKeyFile != "" && c.PreviousKeyFile == c.KeyFile {
		add(invalid("previous_key_file", "%q is key_file too; set it to the file with the previous key, or remove it", c.PreviousKeyFile))
	}
	switch {
	case c.AuthorizedKeys == "" && !c.AllowAnonymous:
		add(invalid("authorized_keys", "not set; name a file with one client per line, or set allow_anonymous = true to serve anyone"))
	case c.AuthorizedKeys != "" && c.AllowAnonymous:
		add(invalid("allow_anonymous", "true together with authorized_keys contradicts itself; remove one of them"))
	}
	if c.StateDir == "" {
		add(invalid("state_dir", "empty; name a directory that survives restarts, such as %q", Default().StateDir))
	}
	if c.TableSlots < MinTableSlots || c.TableSlots > MaxTableSlots || bits.OnesCount32(c.TableSlots) != 1 {
		add(invalid("table_slots", "%d is not a power of two from %d to %d; the default is %d", c.TableSlots, MinTableSlots, MaxTableSlots, Default().TableSlots))
	}
	add(CheckInstance(c.Instance))
	_, err = c.Metrics.Address()
	add(err)
	wrong = append(wrong, c.checkServices(checkService)...)
	return errors.Join(wrong...)
}

// CheckInstance refuses what cannot be the name of a directory of pins.
func CheckInstance(name string) error {
	letter := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return !letter(r) }) {
		return invalid("instance", "%q is not a name of 1 to 32 letters, digits, '-' and '_'", name)
	}
	return nil
}

func (c *Config) checkInterfaces() error {
	for i, name := range c.Interfaces {
		// The kernel's own rule (dev_valid_name): 15 bytes, no slash, no white space.
		if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
			return invalid("interfaces", "%q is not the name of a network interface; `ip link` lists them", name)
		}
		if slices.Contains(c.Interfaces[:i], name) {
			return invalid("interfaces", "%q is named twice", name)
		}
	}
	if len(c.Interfaces) > 0 && (c.Mode == ModeSocket || c.Mode == ModeNone) {
		return invalid("interfaces", "mode %q attaches to no interface; remove interfaces or use mode %q", c.Mode, ModeAuto)
	}
	if len(c.Interfaces) == 0 && (c.Mode == ModeAFXDP || c.Mode == ModeXDP || c.Mode == ModeGeneric) {
		return invalid("interfaces", "mode %q needs at least one interface", c.Mode)
	}
	return nil
}

func oneOf(key, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return invalid(key, "%q is none of %s%s", value, strings.Join(allowed, ", "), didYouMean(value, allowed))
}

func invalid(key, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalid, key, fmt.Sprintf(format, args...))
}
