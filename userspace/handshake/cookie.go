// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// CookieEpoch is the time in seconds that one cookie key is used to make
	// cookies.
	CookieEpoch = 60
	// CookieLifetime is how old a cookie may be, in seconds.
	CookieLifetime = 10
	// CookieAhead is how far in the future a cookie may be, in seconds: clocks that
	// share a secret differ a little.
	CookieAhead = 2

	cookieVersion = 1
	cookieHashAt  = 8
)

// Cookies makes and checks the cookie by which a client proves its address
// before the server keeps anything about it. XDP computes the same with the same
// keys, so either may make what the other checks. All methods may be called
// concurrently.
//
// The time, now, is in Unix seconds by a clock that never steps: the monotonic
// clock plus a base that the caller chose once.
type Cookies struct {
	serverID uint16
	secrets  atomic.Pointer[cookieSecrets] // replaced whole by Rotate
}

// cookieSecrets is which secret makes the keys of which epochs.
type cookieSecrets struct {
	secret, previous [32]byte
	since            uint64 // first epoch of secret; those before are previous's
	// keys caches the keys of the epochs around now, at epoch modulo its length.
	// Deriving one takes an HMAC, and the clients choose the time that a cookie
	// claims; only the three epochs that CookieAhead and CookieLifetime can reach
	// are ever derived.
	keys [3]atomic.Pointer[cookieKey]
}

type cookieKey struct {
	epoch uint64
	key   [16]byte
}

// NewCookies returns cookies under a secret, normally State.CookieSecret.
// serverID is 0 for a single server.
func NewCookies(secret [32]byte, serverID uint16) *Cookies {
	c := &Cookies{serverID: serverID}
	c.secrets.Store(&cookieSecrets{secret: secret})
	return c
}

// Rotate makes secret the one behind the keys of the epochs from since on, which
// is in the future. The secret before it stays good for the cookies made until
// then, so no client has to prove its address again.
func (c *Cookies) Rotate(secret [32]byte, since uint64) {
	was := c.secrets.Load()
	previous := was.secret
	if since <= was.since { // that one has not made a cookie yet
		previous = was.previous
	}
	c.secrets.Store(&cookieSecrets{secret: secret, previous: previous, since: since})
}

// Key returns the SipHash key of an epoch, which is Unix seconds / CookieEpoch.
// Its key id, in the cookie, is the epoch modulo 256.
func (c *Cookies) Key(epoch uint64) [16]byte {
	s := c.secrets.Load()
	cached := &s.keys[epoch%uint64(len(s.keys))]
	if k := cached.Load(); k != nil && k.epoch == epoch {
		return k.key
	}
	secret := s.secret
	if epoch < s.since {
		secret = s.previous
	}
	info := binary.BigEndian.AppendUint64([]byte("roam1 cookie"), epoch)
	k := &cookieKey{epoch, [16]byte(expand(secret, string(info), 16))}
	cached.Store(k)
	return k.key
}

// Make returns the cookie for an attempt from src to dst.
func (c *Cookies) Make(now uint32, hid wire.ID, src, dst netip.AddrPort) wire.Cookie {
	epoch := uint64(now) / CookieEpoch
	ck := wire.Cookie{cookieVersion, byte(epoch)}
	binary.BigEndian.PutUint16(ck[2:], c.serverID)
	binary.BigEndian.PutUint32(ck[4:], now)
	hash := cookieHash(c.Key(epoch), ck, hid, src, dst)
	copy(ck[cookieHashAt:], hash[:])
	return ck
}

// Valid reports whether the cookie proves src for this attempt. A cookie that
// does not, be it absent, forged or expired, counts as none: it is no reason to
// drop the packet.
func (c *Cookies) Valid(now uint32, ck wire.Cookie, hid wire.ID, src, dst netip.AddrPort) bool {
	made := binary.BigEndian.Uint32(ck[4:])
	age := int64(now) - int64(made)
	epoch := uint64(made) / CookieEpoch
	if ck[0] != cookieVersion || ck[1] != byte(epoch) || binary.BigEndian.Uint16(ck[2:]) != c.serverID ||
		age > CookieLifetime || age < -CookieAhead {
		return false
	}
	want := cookieHash(c.Key(epoch), ck, hid, src, dst)
	return subtle.ConstantTimeCompare(want[:], ck[cookieHashAt:]) == 1
}

func cookieHash(key [16]byte, ck wire.Cookie, hid wire.ID, src, dst netip.AddrPort) [8]byte {
	var in [60]byte // on the stack: nothing here allocates
	copy(in[0:], hid[:])
	copy(in[16:], ck[:cookieHashAt])
	srcIP, dstIP := src.Addr().As16(), dst.Addr().As16()
	copy(in[24:], srcIP[:])
	copy(in[40:], dstIP[:])
	binary.BigEndian.PutUint16(in[56:], src.Port())
	binary.BigEndian.PutUint16(in[58:], dst.Port())
	return sipHash(key, in[:])
}
