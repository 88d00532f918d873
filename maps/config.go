// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"sync"
)

// Rate is a token bucket of the data plane.
type Rate struct {
	PerSecond uint32 // below 2^24
	Burst     uint32
}

// Limits are the rates of the data plane's buckets at the XDP stage; the socket
// stage has its own, twice as wide. All but SlotCandidate count for each CPU.
type Limits struct {
	Candidate     Rate // candidate lane, all sessions together
	SlotCandidate Rate // candidate lane of one id, all CPUs together
	Handshake     Rate // INITs handed to the control plane
	Uncookied     Rate // INITs without a cookie before CookieAuto demands one
	Reset         Rate // ids of ours without a session
	Version       Rate // INITs of an unknown version
	Slow          Rate // INITs to which the control plane answers RETRY, because XDP has not
	Event         Rate // events in the ring buffer
	Trace         Rate // packets of traced sessions, and as many that are dropped
}

// DefaultLimits returns the limits that docs/PROTOCOL.md states; where it is
// silent, what one core of the control plane can work off: a handshake costs
// it some 0.2 ms, a candidate's packet or a RETRY some microseconds.
func DefaultLimits() Limits {
	return Limits{
		Candidate:     Rate{65536, 16384},
		SlotCandidate: Rate{4096, 1024},
		Handshake:     Rate{4000, 1000},
		Uncookied:     Rate{200, 200},
		Reset:         Rate{10000, 1000},
		Version:       Rate{100, 100},
		Slow:          Rate{20000, 20000},
		Event:         Rate{100, 200},
		Trace:         Rate{4096, 512},
	}
}

// Config is what the control plane tells the data plane. Each setting is safe
// to change while packets are judged: a packet that meets a key half written
// is judged as one with a wrong tag or without a cookie.
type Config struct {
	mu       sync.Mutex
	entry    *config
	readOnly bool
}

func (c *Config) write(f func(*config)) error {
	if c.readOnly {
		return ErrReadOnly
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.entry)
	return nil
}

// initialize fills a new instance's entry: without id keys and listeners the
// data plane passes everything on.
func (c *Config) initialize(slots uint32) error {
	if err := c.write(func(e *config) {
		e.Schema = Schema
		e.SlotMask = slots - 1
	}); err != nil {
		return err
	}
	return c.SetLimits(DefaultLimits())
}

// setIDKeys tells the data plane which ids are ours. Set.Identify calls it.
func (c *Config) setIDKeys(k *idKeys) error {
	return c.write(func(e *config) {
		e.ServerId = k.serverID
		for i, k := range k.keys {
			e.IdKeys[i] = k.schedule()
		}
	})
}

// MaxMAC1Keys is how many mac1 keys the data plane accepts at a time: the
// server's and, while it is rotated, the old one.
const MaxMAC1Keys = len(config{}.Mac1Keys)

// SetMAC1Keys replaces the keys of which an INIT's mac1 must match one. With
// none every INIT is dropped.
func (c *Config) SetMAC1Keys(keys ...[16]byte) error {
	if len(keys) > MaxMAC1Keys {
		return fmt.Errorf("%d mac1 keys: the data plane has room for %d", len(keys), MaxMAC1Keys)
	}
	return c.write(func(e *config) {
		for i := range e.Mac1Keys {
			var k sipKey
			if i < len(keys) {
				k = newSipKey(keys[i])
			}
			e.Mac1Keys[i].K0, e.Mac1Keys[i].K1 = k.k0, k.k1
		}
	})
}

// SetCookieKey makes key the cookie key of the epoch (Unix time / 60). The
// current and the previous epoch's keys are in use; the caller sets the next
// one before its epoch begins.
func (c *Config) SetCookieKey(epoch uint32, key [16]byte) error {
	return c.write(func(e *config) {
		entry := &e.CookieKeys[epoch%uint32(len(e.CookieKeys))]
		k := newSipKey(key)
		entry.Epoch = 0
		entry.Key.K0, entry.Key.K1 = k.k0, k.k1
		entry.Epoch = epoch
	})
}

// SetCookiePolicy says when the data plane demands a cookie.
func (c *Config) SetCookiePolicy(p CookiePolicy) error {
	return c.write(func(e *config) { e.CookiePolicy = uint8(p) })
}

// SetUnixBase sets what the data plane adds to the seconds of CLOCK_MONOTONIC
// to get the time that cookies carry.
func (c *Config) SetUnixBase(seconds uint32) error {
	return c.write(func(e *config) { e.UnixBase = seconds })
}

// SetLimits replaces the rates of all buckets.
func (c *Config) SetLimits(l Limits) error {
	return c.write(func(e *config) {
		t := &e.Limits
		t.CandidateRate, t.CandidateBurst = l.Candidate.PerSecond, l.Candidate.Burst
		t.SlotCandidateRate, t.SlotCandidateBurst = l.SlotCandidate.PerSecond, l.SlotCandidate.Burst
		t.HandshakeRate, t.HandshakeBurst = l.Handshake.PerSecond, l.Handshake.Burst
		t.UncookiedRate, t.UncookiedBurst = l.Uncookied.PerSecond, l.Uncookied.Burst
		t.ResetRate, t.ResetBurst = l.Reset.PerSecond, l.Reset.Burst
		t.VersionRate, t.VersionBurst = l.Version.PerSecond, l.Version.Burst
		t.SlowRate, t.SlowBurst = l.Slow.PerSecond, l.Slow.Burst
		t.EventRate, t.EventBurst = l.Event.PerSecond, l.Event.Burst
		t.TraceRate, t.TraceBurst = l.Trace.PerSecond, l.Trace.Burst
	})
}

// ConfigInfo is the configuration as plain values, without any key.
type ConfigInfo struct {
	Schema       uint32
	Slots        uint32
	UnixBase     uint32 // seconds
	ServerID     uint16
	CookiePolicy CookiePolicy
	IDKeys       []int    // generations that have a key
	MAC1Keys     int      // how many
	CookieEpochs []uint32 // epochs that have a key
	Limits       Limits
}

// Read returns the configuration as it stands.
func (c *Config) Read() ConfigInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, t := c.entry, &c.entry.Limits
	info := ConfigInfo{
		Schema: e.Schema, Slots: e.SlotMask + 1, UnixBase: e.UnixBase, ServerID: e.ServerId,
		CookiePolicy: CookiePolicy(e.CookiePolicy),
		Limits: Limits{
			Candidate:     Rate{t.CandidateRate, t.CandidateBurst},
			SlotCandidate: Rate{t.SlotCandidateRate, t.SlotCandidateBurst},
			Handshake:     Rate{t.HandshakeRate, t.HandshakeBurst},
			Uncookied:     Rate{t.UncookiedRate, t.UncookiedBurst},
			Reset:         Rate{t.ResetRate, t.ResetBurst},
			Version:       Rate{t.VersionRate, t.VersionBurst},
			Slow:          Rate{t.SlowRate, t.SlowBurst},
			Event:         Rate{t.EventRate, t.EventBurst},
			Trace:         Rate{t.TraceRate, t.TraceBurst},
		},
	}
	for i, k := range e.IdKeys {
		if k.V2|k.V3 != 0 {
			info.IDKeys = append(info.IDKeys, i)
		}
	}
	for _, k := range e.Mac1Keys {
		if k.K0|k.K1 != 0 {
			info.MAC1Keys++
		}
	}
	for _, k := range e.CookieKeys {
		if k.Epoch != 0 {
			info.CookieEpochs = append(info.CookieEpochs, k.Epoch)
		}
	}
	return info
}
