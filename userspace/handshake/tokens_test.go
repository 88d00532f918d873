// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// What is kept from one token to the next changes none, whoever asks beside.
func TestResetTokens(t *testing.T) {
	key := [32]byte{1}
	tokens := NewResetTokens(key)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				var id wire.ID
				binary.BigEndian.PutUint32(id[:], uint32(g<<16|i))
				if got, want := tokens.Token(id), ResetToken(key, id); got != want {
					t.Errorf("%v: %x, want %x", id, got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestResetTokensAllocs(t *testing.T) {
	if testutil.Race {
		t.Skip("the race detector has sync.Pool forget")
	}
	tokens := NewResetTokens([32]byte{1})
	if n := testing.AllocsPerRun(1000, func() { tokens.Token(wire.ID{2}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkResetTokens(b *testing.B) {
	tokens := NewResetTokens([32]byte{1})
	for b.Loop() {
		tokens.Token(wire.ID{2})
	}
}
