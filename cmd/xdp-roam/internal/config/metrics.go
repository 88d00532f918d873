// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Metrics says where the edge is looked at over TCP. On its control socket it
// always is, at /metrics.
type Metrics struct {
	// Listen is "ADDR:PORT"; empty: nowhere, or DefaultMetrics if there is a page.
	Listen string `toml:"listen"`
	// TokenFile holds what whoever asks must know. Needed beyond loopback.
	TokenFile string `toml:"token_file"`
	// Page is whether there is a status page.
	Page bool `toml:"page"`
}

// DefaultMetrics is where the page is if Listen says nothing.
const DefaultMetrics = "127.0.0.1:9626"

// Address is where to listen; zero: nowhere.
func (m *Metrics) Address() (netip.AddrPort, error) {
	text := m.Listen
	if text == "" && m.Page {
		text = DefaultMetrics
	}
	if text == "" {
		if m.TokenFile != "" {
			return netip.AddrPort{}, invalid("metrics.token_file", "set without metrics.listen: nothing asks for it; write listen = %q, or remove it", DefaultMetrics)
		}
		return netip.AddrPort{}, nil
	}
	address, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return netip.AddrPort{}, invalid("metrics.listen", "%q is not an address and a port; write %q, or \"[::]:9626\" for all addresses", text, DefaultMetrics)
	case !address.Addr().IsLoopback() && m.TokenFile == "":
		return netip.AddrPort{}, invalid("metrics.listen", "%q can be reached by others: set token_file too (`umask 077; openssl rand -hex 32 > metrics.token` makes one), or listen on %q", text, DefaultMetrics)
	}
	return address, nil
}

// minToken is the shortest token in bytes: 64 bits in hexadecimal.
const minToken = 16

// metricsToken is what errors call it.
const metricsToken = "metrics token"

// ReadToken reads TokenFile: one line. What every user of the machine can read is no
// secret (fs.ErrPermission). Without a file the token is empty.
func (m *Metrics) ReadToken() (string, error) {
	if m.TokenFile == "" {
		return "", nil
	}
	file, err := openSecret(m.TokenFile, metricsToken)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecret))
	if err != nil {
		return "", &SecretError{text: "cannot read the " + metricsToken, err: err}
	}
	token := strings.TrimSpace(string(text))
	visible := func(r rune) bool { return r > ' ' && r < 0x7f }
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return !visible(r) }) {
		return "", &SecretError{
			text: fmt.Sprintf("%s holds no token: that is one word of at least %d ASCII characters", m.TokenFile, minToken), kind: ErrInvalid,
			fix: makeSecret[metricsToken] + m.TokenFile,
		}
	}
	return token, nil
}
