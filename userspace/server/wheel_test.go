// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWheel arms, moves and disarms timers at random and compares what fires
// with when it should.
func TestWheel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	now := 17 * time.Hour // not at a round tick
	w := newWheel(now)
	sessions := make([]*Session, 500)
	want := map[*Session]time.Duration{}
	for i := range sessions {
		sessions[i] = &Session{}
	}
	spans := []time.Duration{time.Millisecond, 50 * time.Millisecond, 3 * time.Second, 5 * time.Minute, 10 * time.Hour}
	fired := 0
	for range 30000 {
		s := sessions[rng.IntN(len(sessions))]
		switch at := now + time.Duration(rng.Int64N(int64(spans[rng.IntN(len(spans))]))); rng.IntN(4) {
		case 0:
			w.disarm(s)
			delete(want, s)
		default:
			w.arm(s, at)
			if old, armed := want[s]; !armed || at < old {
				want[s] = at // a later one leaves it where it is
			}
		}
		if rng.IntN(10) != 0 {
			continue
		}
		wake := w.sleep()
		step := time.Duration(rng.Int64N(int64(spans[rng.IntN(4)])))
		for s, at := range want {
			if at < wake-wheelTick {
				t.Fatalf("sleeps until %v, a timer is due at %v", wake, at)
			}
			_ = s
		}
		now += step
		for _, s := range w.expire(now, nil) {
			at, armed := want[s]
			if !armed || at > now {
				t.Fatalf("fired at %v, armed %v for %v", now, armed, at)
			}
			delete(want, s)
			fired++
		}
		for _, at := range want {
			if at <= now-wheelTick {
				t.Fatalf("at %v one of %v has not fired", now, at)
			}
		}
	}
	if w.armed != len(want) || fired < 1000 {
		t.Errorf("%d armed, want %d; %d fired", w.armed, len(want), fired)
	}
}

// TestWheelFar arms a timer for beyond the wheel's reach: it fires early, to be armed again.
func TestWheelFar(t *testing.T) {
	w := newWheel(0)
	s := &Session{}
	w.arm(s, 100*time.Hour)
	fired := false
	for now := time.Duration(0); now <= 19*time.Hour; now += 10 * time.Minute {
		if len(w.expire(now, nil)) == 1 {
			fired = true
		}
	}
	if !fired {
		t.Error("lost")
	}
}

func TestWheelWake(t *testing.T) {
	w := newWheel(0)
	a, b := &Session{}, &Session{}
	w.sleep()
	w.arm(a, time.Second)
	<-w.wake // earlier than "never"
	w.sleep()
	w.arm(b, time.Hour)
	select {
	case <-w.wake:
		t.Error("woken for a later timer")
	default:
	}
	w.disarm(b)
	w.arm(b, 10*time.Millisecond)
	<-w.wake
}
