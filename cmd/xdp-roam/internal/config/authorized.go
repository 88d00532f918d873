// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Client is a line of authorized_keys: who has a key, and what it may do.
type Client struct {
	Name string
	// Services are the service ports that it may use, in order; nil: all.
	Services []uint16
	// PSK is the secret shared with this client alone; zero: none.
	PSK handshake.PSK
	// Sessions bounds its sessions at a time; 0: the server's own bound.
	Sessions int

	// Line is where it stands.
	Line int
}

// MayUse reports whether the client may use a service.
func (c Client) MayUse(service uint16) bool {
	return c.Services == nil || slices.Contains(c.Services, service)
}

// Authorized is a whole authorized_keys.
type Authorized struct {
	Clients map[handshake.PublicKey]Client
	// Warnings tell of what is allowed and unwise, a sentence each.
	Warnings []string
	// PSKFiles are the files that lines name, for who watches for changes.
	PSKFiles []string
	// Unended: the file does not end with the end of a line, or is empty, as one that
	// is still being written.
	Unended bool

	inline bool // a preshared key stands in the file itself
}

// maxSessionsOfClient is what sessions= may say.
const maxSessionsOfClient = 1 << 20

// authorizedForm is what every complaint about a line's form ends with.
const authorizedForm = "a line is KEY NAME [services=ssh,53] [psk=SECRET or psk-file=FILE] [sessions=N]"

// ReadAuthorized reads the file that authorized_keys names. services are those
// of the configuration, which lines may name.
func ReadAuthorized(name string, services []Service) (*Authorized, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read authorized_keys: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read authorized_keys: %w", err)
	}
	a, err := ParseAuthorized(name, bytes.NewReader(text), services, readPSK)
	if err != nil {
		return nil, err
	}
	a.Unended = !bytes.HasSuffix(text, []byte("\n"))
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read authorized_keys: %w", err)
	}
	a.warnOfMode(name, info)
	return a, nil
}

// warnOfMode looks at who else can read and write the file.
func (a *Authorized) warnOfMode(name string, info os.FileInfo) {
	if runtime.GOOS == "windows" || !info.Mode().IsRegular() {
		return // no such bits, or nobody's in particular
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		a.warn("%s can be written by others than its owner (mode %04o), and who may write it may let anyone in: chmod go-w %s", name, mode, name)
	}
	if mode&0o044 != 0 && a.inline {
		a.warn("%s holds preshared keys and can be read by others than its owner (mode %04o): chmod go-r %s, or use psk-file=", name, mode, name)
	}
	directory := filepath.Dir(name)
	if d, err := os.Stat(directory); err == nil && d.Mode().Perm()&0o022 != 0 && d.Mode()&os.ModeSticky == 0 {
		a.warn("the directory %s can be written by others than its owner (mode %04o), who can put another file in the place of %s: chmod go-w %s",
			directory, d.Mode().Perm(), filepath.Base(name), directory)
	}
}

func (a *Authorized) warn(format string, args ...any) {
	a.Warnings = append(a.Warnings, fmt.Sprintf(format, args...))
}

// ParseAuthorized reads one client a line: the base64 public key that `pubkey`
// prints, a name of one word, and options:
//
//	services=ssh,53   the services that it may use, by number or by their name in
//	                  the configuration; without: all
//	psk=SECRET        a preshared key in base64, for this client alone
//	psk-file=FILE     the same in a file; a relative path begins where the list is
//	sessions=N        as many sessions at a time
//
// Empty lines are skipped, and all from a word on that begins with '#'. Whatever
// is wrong is reported at once, each with name:line; a key or a name given twice
// is wrong, because one of the two lines would be forgotten when access is taken
// away. readPSK reads the file of psk-file=.
func ParseAuthorized(name string, r io.Reader, services []Service, readPSK func(path string) (handshake.PSK, error)) (*Authorized, error) {
	p := authorizedParser{
		list: &Authorized{Clients: make(map[handshake.PublicKey]Client)}, file: name, services: services, readPSK: readPSK,
		names: make(map[string]int),
	}
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		p.line++
		p.parse(scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		p.line++
		p.fail("%v", err)
	}
	if len(p.wrong) > 0 {
		return nil, errors.Join(p.wrong...)
	}
	if len(p.list.Clients) == 0 {
		p.list.warn("%s: no key in it, so that nobody can connect; add one", name)
	}
	return p.list, nil
}

// Check returns what is no list to begin with: one without a key, which is more likely
// the wrong file than meant. A list that loses its last key later is one.
func (a *Authorized) Check(name string) error {
	if len(a.Clients) == 0 {
		return fmt.Errorf("%w: %s: no key in it, so that nobody could connect; add one, or use allow_anonymous = true", ErrInvalid, name)
	}
	return nil
}

type authorizedParser struct {
	list     *Authorized
	file     string
	line     int
	services []Service
	readPSK  func(string) (handshake.PSK, error)
	names    map[string]int // to their line
	wrong    []error
}

func (p *authorizedParser) fail(format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Errorf("%w: %s:%d: %s", ErrInvalid, p.file, p.line, fmt.Sprintf(format, args...)))
}

func (p *authorizedParser) parse(line string) {
	words := strings.Fields(line)
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") }); i >= 0 {
		words = words[:i]
	}
	if len(words) == 0 {
		return
	}
	var key handshake.PublicKey
	if err := key.UnmarshalText([]byte(words[0])); err != nil {
		p.fail("%v; %s", err, authorizedForm)
		return
	}
	if len(words) == 1 || strings.Contains(words[1], "=") {
		p.fail("the key has no name; %s", authorizedForm)
		return
	}
	client := Client{Name: words[1], Line: p.line}
	had := make(map[string]bool)
	for _, word := range words[2:] {
		option, value, ok := strings.Cut(word, "=")
		switch {
		case !ok:
			p.fail("%q is no option, and a name is one word; %s", word, authorizedForm)
			return
		case had[option]:
			p.fail("%s= is given twice; write it once", option)
			return
		}
		had[option] = true
		if err := p.option(&client, option, value); err != nil {
			p.fail("%v", err)
			return
		}
	}
	before, known := p.list.Clients[key]
	switch {
	case !utf8.ValidString(client.Name), strings.ContainsFunc(client.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		p.fail("the name %q has characters in it that cannot be printed", client.Name)
	case known:
		p.fail("the key of %q is on line %d already, as %q", client.Name, before.Line, before.Name)
	case p.names[client.Name] != 0:
		p.fail("the name %q is on line %d already", client.Name, p.names[client.Name])
	case had["psk"] && had["psk-file"]:
		p.fail("psk= and psk-file= contradict each other; keep one of them")
	default:
		p.list.Clients[key], p.names[client.Name] = client, p.line
	}
}

func (p *authorizedParser) option(client *Client, option, value string) (err error) {
	switch option {
	case "services":
		client.Services, err = p.parseServices(value)
	case "psk":
		if err := client.PSK.UnmarshalText([]byte(value)); err != nil {
			return fmt.Errorf("psk=: %v", err)
		}
		if client.PSK.IsZero() {
			return errors.New("psk=: all its bytes are zero, which means none; `xdp-roam genpsk` makes one")
		}
		p.list.inline = true
	case "psk-file":
		if value == "" {
			return errors.New("psk-file= names no file; `xdp-roam genpsk -o FILE` makes one")
		}
		if !filepath.IsAbs(value) {
			value = filepath.Join(filepath.Dir(p.file), value)
		}
		p.list.PSKFiles = append(p.list.PSKFiles, value)
		client.PSK, err = p.readPSK(value)
	case "sessions":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxSessionsOfClient {
			return fmt.Errorf("sessions=%s: write a number from 1 to %d; to let nobody in, remove the line", value, maxSessionsOfClient)
		}
		client.Sessions = n
	default:
		return fmt.Errorf("unknown option %q%s; %s", option, didYouMean(option, []string{"services", "psk", "psk-file", "sessions"}), authorizedForm)
	}
	return err
}

func (p *authorizedParser) parseServices(value string) ([]uint16, error) {
	var ports []uint16
	for _, text := range strings.Split(value, ",") {
		port, err := p.service(text)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// service is the port of a service by its number or its name.
func (p *authorizedParser) service(text string) (uint16, error) {
	if text == "" {
		return 0, errors.New("services= has an empty place; write numbers or names with commas between, and to let nobody in, remove the line")
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n != 0 {
		if !slices.ContainsFunc(p.services, func(s Service) bool { return s.Port == uint16(n) }) {
			p.list.warn("%s:%d: there is no service %d in the configuration", p.file, p.line, n)
		}
		return uint16(n), nil
	}
	var names []string
	for _, s := range p.services {
		if s.Name == text {
			return s.Port, nil
		}
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	have := "none has a name"
	if len(names) > 0 {
		have = "those with a name are " + strings.Join(names, ", ")
	}
	return 0, fmt.Errorf("%q is no service: write a number from 1 to 65535, or a name that a [[service]] has (%s)", text, have)
}

// readPSK reads a preshared key that only its owner can read.
func readPSK(path string) (handshake.PSK, error) {
	return ReadSecret[handshake.PSK](path, "preshared key")
}
