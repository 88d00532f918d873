// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"net/netip"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// caps bounds the confirmed sessions of one client and of one network, and with
// them their slots: a session that is closed counts until it has given its own
// back. A session counts in the network that it is in now.
type caps struct {
	maxKey, maxPrefix int

	mu       sync.Mutex
	keys     map[handshake.PublicKey]int32
	prefixes map[prefix]int32
}

func newCaps(l Limits) *caps {
	return &caps{
		maxKey: l.KeySessions, maxPrefix: l.PrefixSessions,
		keys: make(map[handshake.PublicKey]int32), prefixes: make(map[prefix]int32),
	}
}

// room says whether another session would be within the caps, and if not, why
// in words for its client. own is the key's own cap; 0: that of all keys.
func (c *caps) room(key handshake.PublicKey, addr netip.Addr, own int) (refusal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.check(key, makePrefix(addr, sessionPrefixBits), own)
}

// add counts a confirmed session, or says why not.
func (c *caps) add(key handshake.PublicKey, addr netip.Addr, own int) (refusal string) {
	p := makePrefix(addr, sessionPrefixBits)
	c.mu.Lock()
	defer c.mu.Unlock()
	if refusal = c.check(key, p, own); refusal == "" {
		c.keys[key]++
		c.prefixes[p]++
	}
	return refusal
}

func (c *caps) check(key handshake.PublicKey, p prefix, own int) string {
	switch most := cmp.Or(own, c.maxKey); {
	case int(c.keys[key]) >= most:
		return fmt.Sprintf("this key has %d sessions, as many as it may have: end one first", most)
	case int(c.prefixes[p]) >= c.maxPrefix:
		return fmt.Sprintf("this network has %d sessions, as many as one may have: end one first", c.maxPrefix)
	}
	return ""
}

// move counts a session in another network from now on. It refuses nothing: a
// session that roams is not to be lost for where it comes to.
func (c *caps) move(from, to netip.Addr) {
	p, q := makePrefix(from, sessionPrefixBits), makePrefix(to, sessionPrefixBits)
	if p == q {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	release(c.prefixes, p)
	c.prefixes[q]++
}

// remove takes a session that add counted off again.
func (c *caps) remove(key handshake.PublicKey, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	release(c.keys, key)
	release(c.prefixes, makePrefix(addr, sessionPrefixBits))
}

func release[K comparable](m map[K]int32, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
