// SPDX-License-Identifier: Apache-2.0

package session

import (
	"reflect"
	"sync"
	"testing"
	"unsafe"

	"golang.zx2c4.com/wireguard/replay"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// What Touch takes for granted about memory that is not ours costs only time where
// it is wrong: so nothing but this would tell.
func TestTouchLayout(t *testing.T) {
	if got := unsafe.Sizeof(replay.Filter{}); got != 8+replayBits/8 {
		t.Errorf("the replay window is %d bytes", got)
	}
	var k idKey
	if err := k.build(new([32]byte), 0, new(wire.ID)); err != nil {
		t.Fatal(err)
	}
	if v := reflect.TypeOf(k.aead); v.Kind() != reflect.Pointer || v.Elem().Size() < scheduleLen-64 || v.Elem().Size() > scheduleLen {
		t.Errorf("crypto/cipher keeps a key in a %v", v)
	}
	if got := unsafe.Sizeof(hot{}); got > 5*64 {
		t.Errorf("%d bytes of a session are hot", got)
	}
}

// Touch runs beside all that happens to a session: the race detector watches.
func TestTouchBeside(t *testing.T) {
	for seed := range uint64(10) {
		l := newLife(t, 7000+seed)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for _, s := range []*Session{l.c.Session, l.s.Session} {
			wg.Go(func() {
				for counter := uint64(0); ; counter++ {
					select {
					case <-done:
						return
					default:
					}
					for step := range TouchSteps {
						s.Touch(step, counter, true)
					}
				}
			})
		}
		for range 40 {
			l.step()
		}
		close(done)
		wg.Wait()
	}
}
