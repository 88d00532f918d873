// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// What is too long for the screen is cut by what is seen of it, and leaves no colour on.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		line string
		most int
		want string
	}{
		{"short", 5, "short"},
		{"longer", 5, "longe"},
		{"größer", 4, "größ"},
		{"\x1b[31mred\x1b[0m", 3, "\x1b[31mred\x1b[0m"},
		{"\x1b[31mred and long\x1b[0m", 3, "\x1b[31mred\x1b[0m"},
		{"a \x1b[31mred\x1b[0m end", 7, "a \x1b[31mred\x1b[0m e\x1b[0m"},
		{"", 0, ""},
		{"none", 0, ""},
	} {
		if got := cut(c.line, c.most); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.line, c.most, got, c.want)
		}
	}
}
