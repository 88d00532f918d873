// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/netip"
	"testing"
)

// The table of RFC 6052 section 2.4, and what is no translator's address.
func TestTranslate(t *testing.T) {
	four := netip.MustParseAddr("192.0.2.33")
	for known, want := range map[string]string{
		"2001:db8:c000:aa::":            "2001:db8:c000:221::",
		"2001:db8:1c0:0:aa::":           "2001:db8:1c0:2:21::",
		"2001:db8:122:c000:0:aa00::":    "2001:db8:122:c000:2:2100::",
		"2001:db8:122:3c0:0:aa::":       "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344:c0:0:aa00::":  "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::192.0.0.171": "2001:db8:122:344::192.0.2.33",
		"64:ff9b::192.0.0.170":          "64:ff9b::192.0.2.33",
		"2001:db8::1":                   "",
		"::ffff:192.0.0.170":            "",
		"192.0.0.170":                   "",
		"2001:db8:122:344:c0:0:aa00:1":  "", // the suffix is zero
	} {
		got, ok := translate(netip.MustParseAddr(known), four)
		if want == "" && ok || want != "" && got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %q", known, got, want)
		}
	}
	if _, ok := translate(netip.MustParseAddr("64:ff9b::c000:aa"), netip.MustParseAddr("2001:db8::1")); ok {
		t.Error("IPv6 was translated")
	}
}
