// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Whoever cannot go on with its work is named, and only as long as that is so; who
// has nothing to do is well.
func TestCheckNamesWhoIsStuck(t *testing.T) {
	const limit = 50 * time.Millisecond
	var door sync.Mutex
	srv := listen(t, func(c *Config) {
		c.Authorize = func(handshake.PublicKey, uint16) Access {
			door.Lock()
			defer door.Unlock()
			return Access{Allowed: true}
		}
	})
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	well := func() bool { return srv.Check(limit) == nil }
	stuck := func(who string) func() bool {
		return func() bool {
			err := srv.Check(limit)
			return errors.Is(err, ErrStuck) && strings.Contains(err.Error(), who)
		}
	}
	eventually(t, "nobody has work in hand", func() bool { return srv.Check(0) == nil })

	s.mu.Lock() // as if someone had died with it
	c.sendDatagram("never read")
	eventually(t, "its reader is stuck", stuck("the main reader of worker "))
	s.mu.Unlock()
	eventually(t, "the reader goes on", well)

	door.Lock()
	init, _ := newAttempt(t, srv, nil)
	newSocket(t, "127.0.0.1", srv).send(init.Packet())
	eventually(t, "a handshaker is stuck", stuck("handshaker "))
	door.Unlock()
	eventually(t, "the handshaker goes on", well)
}
