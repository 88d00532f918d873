// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"net/netip"
	"testing"
)

func TestParseRule(t *testing.T) {
	for text, want := range map[string]Rule{
		"5353:53":             {netip.MustParseAddrPort("127.0.0.1:5353"), 53, NetworkTCP},
		"5353:domain/udp":     {netip.MustParseAddrPort("127.0.0.1:5353"), 53, NetworkUDP},
		"0:7":                 {netip.MustParseAddrPort("127.0.0.1:0"), 7, NetworkTCP},
		"192.0.2.1:2222:ssh":  {netip.MustParseAddrPort("192.0.2.1:2222"), 22, NetworkTCP},
		"[::1]:80:65535/tcp":  {netip.MustParseAddrPort("[::1]:80"), 65535, NetworkTCP},
		"[::1]:8080:http/tcp": {netip.MustParseAddrPort("[::1]:8080"), 80, NetworkTCP},
	} {
		got, err := ParseRule(text, NetworkTCP)
		if err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
		if again, err := ParseRule(got.String(), NetworkUDP); err != nil || again != want {
			t.Errorf("%q is shown as %v, which is %v %v", text, got, again, err)
		}
	}
	if got, err := ParseRule("5353:53", NetworkUDP); err != nil || got.Network != NetworkUDP {
		t.Errorf("of the network that is given: %v %v", got, err)
	}
	for _, bad := range []string{
		"", ":", "53", "5353:", ":53", "5353:0", "5353:65536", "70000:53", "x:53", "5353:no-such-service", "localhost:5353:53",
		"::1:5353:53", "[::1]:53", "5353:host:53", "-1:53", "5353:+53", " 5353:53", "5353:53/", "5353:53/sctp", "5353:53/udp/tcp", "5353: 53",
	} {
		if got, err := ParseRule(bad, NetworkTCP); !errors.Is(err, ErrRule) {
			t.Errorf("%q: %v %v, want ErrRule", bad, got, err)
		}
	}
}

func TestParseService(t *testing.T) {
	for text, want := range map[string]uint16{"22": 22, "ssh": 22, "SSH": 22, "https": 443} {
		if got, err := ParseService(text, NetworkTCP); err != nil || got != want {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "0", "-22", "+22", " 22", "no-such-service", "65536"} {
		if got, err := ParseService(bad, NetworkTCP); !errors.Is(err, ErrService) {
			t.Errorf("%q: %d %v", bad, got, err)
		}
	}
}
