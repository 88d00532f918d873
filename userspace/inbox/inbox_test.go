// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

func newInbox(limit int) *Inbox {
	b := new(Inbox)
	b.Limit(limit)
	return b
}

// done is a context that ended: Receive reads what is there and never waits.
func done() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestInboxCopies(t *testing.T) {
	b := newInbox(0)
	d := []byte("first")
	if b.Push(d) > 0 {
		t.Fatal("no room in an empty inbox")
	}
	copy(d, "later")
	p := make([]byte, 10)
	if n, err := b.Receive(done(), p); string(p[:n]) != "first" || err != nil {
		t.Errorf("got %q, %v", p[:n], err)
	}
	if _, err := b.Receive(done(), p); !errors.Is(err, context.Canceled) {
		t.Errorf("an empty one: %v", err)
	}
	if new(Inbox).Push(d) == 0 {
		t.Error("an inbox without a limit took a datagram")
	}
}

// Every datagram wakes a reader, however readers and writers meet: in the
// bubble a reader that sleeps beside a datagram is a deadlock.
func TestInboxWakesReaders(t *testing.T) {
	const readers, each = 4, 500
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			b := newInbox(readers * each * (recordHeader + 1) * 2)
			for range readers {
				go func() {
					p := make([]byte, 8)
					for range each {
						if n, err := b.Receive(context.Background(), p); n != 1 || err != nil {
							t.Errorf("%d, %v", n, err)
						}
					}
				}()
			}
			for i := range readers * each {
				if b.Push([]byte{1}) > 0 {
					t.Error("no room")
				}
				if i%100 == 0 {
					synctest.Wait() // all readers have come to wait
				}
			}
			synctest.Wait()
			if b.waiting != 0 || !b.queue.empty() {
				t.Errorf("%d readers wait, %d bytes are left", b.waiting, b.queue.used)
			}
		})
	}
}

// One token may stand for two datagrams: whoever takes it leaves one for the next reader.
func TestInboxTwoForOneToken(t *testing.T) {
	b := newInbox(0)
	ready := b.arrive()
	b.arrive() // two readers that found nothing and do not sleep yet
	b.Push([]byte("x"))
	b.Push([]byte("y"))
	for _, want := range []string{"x", "y"} {
		select {
		case <-ready:
		default:
			t.Fatalf("nobody is told of %s", want)
		}
		p := make([]byte, 1)
		if done, err := b.try(func() { b.queue.take(p) }); !done || err != nil || string(p) != want {
			t.Fatalf("got %s, %v, %v; want %s", p, done, err, want)
		}
		b.leave()
	}
	select {
	case <-ready:
		t.Error("woken by nothing")
	default:
	}
}

// A reader whose context ends passes on the token that was meant for it.
func TestInboxReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(0)
		ctx, cancel := context.WithCancel(t.Context())
		left, got := make(chan error), make(chan error)
		go func() {
			_, err := b.Receive(ctx, nil)
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		go func() {
			_, err := b.Receive(t.Context(), make([]byte, 1))
			got <- err
		}()
		synctest.Wait()
		b.Push([]byte("x"))
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestInboxClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(0)
		why := errors.New("the session is over")
		waiting := make(chan error)
		for range 3 {
			go func() {
				_, err := b.Receive(t.Context(), make([]byte, 1))
				waiting <- err
			}()
		}
		synctest.Wait()
		b.Close(why)
		for range 3 {
			if err := <-waiting; err != why {
				t.Errorf("a waiting reader: %v", err)
			}
		}
	})

	b := newInbox(0)
	b.Push([]byte("x"))
	first, second := errors.New("first"), errors.New("second")
	b.Close(first)
	b.Close(second)
	if b.Push([]byte("y")) == 0 {
		t.Error("a closed inbox took a datagram")
	}
	p := make([]byte, 4)
	if n, err := b.Receive(t.Context(), p); n != 1 || err != nil {
		t.Errorf("a closed inbox lost what was inside: %d, %v", n, err)
	}
	for range 2 {
		if _, err := b.Receive(t.Context(), p); err != first {
			t.Errorf("then: %v", err)
		}
	}
}

func TestInboxAllocations(t *testing.T) {
	if testutil.Race {
		t.Skip("sync.Pool allocates at random under the race detector")
	}
	b := newInbox(1 << 16)
	p, out := make([]byte, 1200), make([]byte, 2048)
	ctx := t.Context()
	if n := testing.AllocsPerRun(200, func() {
		for range 8 {
			b.Push(p)
		}
		for range 8 {
			if n, err := b.Receive(ctx, out); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations for eight datagrams", n)
	}
}
