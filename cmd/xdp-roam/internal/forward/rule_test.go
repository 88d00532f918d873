// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"net/netip"
	"testing"
)

func TestParseRule(t *testing.T) {
	for text, want := range map[string]Rule{
		"5353:53":           {netip.MustParseAddrPort("127.0.0.1:5353"), 53},
		"0:7":               {netip.MustParseAddrPort("127.0.0.1:0"), 7},
		"192.0.2.1:5353:53": {netip.MustParseAddrPort("192.0.2.1:5353"), 53},
		"[::1]:5353:65535":  {netip.MustParseAddrPort("[::1]:5353"), 65535},
	} {
		if got, err := ParseRule(text); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", ":", "53", "5353:", ":53", "5353:0", "5353:65536", "70000:53", "x:53", "5353:dns", "localhost:5353:53",
		"::1:5353:53", "[::1]:53", "5353:host:53", "-1:53", "5353:+53", " 5353:53",
	} {
		if got, err := ParseRule(bad); !errors.Is(err, ErrRule) {
			t.Errorf("%q: %v %v, want ErrRule", bad, got, err)
		}
	}
}
