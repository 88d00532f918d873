// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// The sweep frees what nobody owns, the second time that it finds it so, and
// nothing else.
func TestSweep(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	live := srv.table.Len()
	orphan, _, err := srv.table.Allocate(maps.KindROAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	quic, _, err := srv.table.Allocate(maps.KindQUIC, 0)
	if err != nil {
		t.Fatal(err)
	}
	suspects := srv.sweep(nil)
	if !suspects[orphan] || srv.Stats().OrphansFreed != 0 {
		t.Fatalf("suspects after the first time: %v, freed %d", suspects, srv.Stats().OrphansFreed)
	}
	srv.sweep(suspects)
	if _, tag := srv.table.Find(orphan); tag != maps.TagOurs || srv.Stats().OrphansFreed != 1 {
		t.Errorf("the orphan is %v, freed %d", tag, srv.Stats().OrphansFreed)
	}
	if _, tag := srv.table.Find(quic); tag != maps.TagLive || srv.table.Len() != live+1 {
		t.Errorf("another protocol's id is %v; %d slots, want %d", tag, srv.table.Len(), live+1)
	}
	talk(t, s, c, "after")
	if err := srv.table.Retire(quic); err != nil {
		t.Fatal(err)
	}
}

// A session whose client is silent ends after the shorter of both idle timeouts,
// and leaves nothing.
func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	srv := listen(t, func(c *Config) { c.Params.IdleTimeout = time.Hour })
	c := dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Params.IdleTimeout = 3 * time.Second })
	s := accept(t, srv)
	talk(t, s, c, "before")
	c.mu.Lock()
	c.block = true // it is gone
	c.mu.Unlock()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the session does not end")
	}
	if err := s.Err().(*ClosedError); err.Code != wire.CloseIdle || err.Remote {
		t.Errorf("it ended with %v", err)
	}
	eventually(t, "nothing is left", func() bool {
		return srv.table.Len() == 0 && srv.directory.len() == 0 && srv.Stats().Sessions == 0
	})
}
