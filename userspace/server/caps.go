// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// caps bounds the confirmed sessions of one client and of one network, and with
// them their slots: a session that is closed counts until it has given its own
// back. A session counts in the network that it is in now.
type caps struct {
	maxKey, maxPrefix int

	mu       sync.Mutex
	keys     map[uint64]int32 // by a keyed hash: a million keys are 32 MB, and nobody can make two of them meet
	prefixes map[uint64]int32 // likewise
	seed     maphash.Seed
}

func newCaps(l Limits) *caps {
	return &caps{
		maxKey: l.KeySessions, maxPrefix: l.PrefixSessions,
		keys: make(map[uint64]int32), prefixes: make(map[uint64]int32), seed: maphash.MakeSeed(),
	}
}

// room says whether another session would be within the caps, and if not, why
// in words for its client. own is the key's own cap; 0: that of all keys.
func (c *caps) room(key handshake.PublicKey, p prefix, own int) (refusal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.check(key, p, own)
}

// add counts a confirmed session, or says why not.
func (c *caps) add(key handshake.PublicKey, p prefix, own int) (refusal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refusal = c.check(key, p, own); refusal == "" {
		c.keys[hash(c, key)]++
		c.prefixes[hash(c, p)]++
	}
	return refusal
}

func hash[T comparable](c *caps, of T) uint64 { return maphash.Comparable(c.seed, of) }

func (c *caps) check(key handshake.PublicKey, p prefix, own int) string {
	switch most := cmp.Or(own, c.maxKey); {
	case int(c.keys[hash(c, key)]) >= most:
		return fmt.Sprintf("this key has %d sessions, as many as it may have: end one first", most)
	case int(c.prefixes[hash(c, p)]) >= c.maxPrefix:
		return fmt.Sprintf("this network has %d sessions, as many as one may have: end one first", c.maxPrefix)
	}
	return ""
}

// move counts a session in another network from now on. It refuses nothing: a
// session that roams is not to be lost for where it comes to.
func (c *caps) move(from, to prefix) {
	if from == to {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	release(c.prefixes, hash(c, from))
	c.prefixes[hash(c, to)]++
}

// remove takes a session that add counted off again.
func (c *caps) remove(key handshake.PublicKey, p prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	release(c.keys, hash(c, key))
	release(c.prefixes, hash(c, p))
}

func release(m map[uint64]int32, k uint64) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
