// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

// Random operations against a plain Go map as the model.
func TestAgainstModel(t *testing.T) {
	const slots = 128
	r := rand.New(rand.NewPCG(1, 2))
	s := newTable(t, slots)
	type entry struct {
		addr  netip.AddrPort
		owner uint16
	}
	model := map[ID]entry{}
	var ids, retired []ID
	for step := range 20000 {
		switch op := r.IntN(10); {
		case op < 4:
			id, _, err := s.Allocate(KindROAM, uint16(step))
			if full := len(model) == slots*3/4; full != errors.Is(err, ErrFull) || (!full && err != nil) {
				t.Fatalf("step %d: Allocate with %d live: %v", step, len(model), err)
			}
			if err == nil {
				model[id] = entry{owner: uint16(step)}
				ids = append(ids, id)
			}
		case op < 7 && len(ids) > 0:
			i := r.IntN(len(ids))
			if err := s.Retire(ids[i]); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			delete(model, ids[i])
			retired = append(retired, ids[i])
			ids[i] = ids[len(ids)-1]
			ids = ids[:len(ids)-1]
		case op < 9 && len(ids) > 0:
			id := ids[r.IntN(len(ids))]
			e := model[id]
			e.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(r.Uint32()), 0, 1}), uint16(r.Uint32()))
			if err := s.Commit(id, e.addr); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			model[id] = e
		case len(retired) > 0:
			id := retired[r.IntN(len(retired))]
			if err := s.Commit(id, netip.MustParseAddrPort("192.0.2.1:1")); !errors.Is(err, ErrNoSession) {
				t.Fatalf("step %d: Commit of a retired id: %v", step, err)
			}
		}
		if int(s.Len()) != len(model) {
			t.Fatalf("step %d: Len %d, model %d", step, s.Len(), len(model))
		}
		for _, some := range [][]ID{ids, retired, {{}}} {
			if len(some) == 0 {
				continue
			}
			id := some[r.IntN(len(some))]
			_, known := model[id]
			n, live := s.Lookup(&id)
			if at, tag := s.Find(id); live != known || live != (tag == TagLive) || live && n != at {
				t.Fatalf("step %d: Lookup says %d %v, Find %d %v, the model %v", step, n, live, at, tag, known)
			}
		}
	}
	s.Scan(func(live []SlotInfo) bool {
		for _, info := range live {
			e, ok := model[info.ID]
			if !ok || e.addr != info.Addr() || e.owner != info.Owner {
				t.Errorf("slot %d: %+v, model %+v %v", info.Slot, info, e, ok)
			}
			delete(model, info.ID)
		}
		return true
	})
	if len(model) != 0 {
		t.Errorf("%d ids of the model are in no slot", len(model))
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newTable(t, 1024)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(w)}), uint16(w+1))
			for range 300 {
				var mine []ID
				for range 20 {
					id, _, err := s.Allocate(KindROAM, uint16(w))
					if err != nil {
						t.Errorf("worker %d: %v", w, err)
						return
					}
					mine = append(mine, id)
					if err := s.Commit(id, addr); err != nil {
						t.Errorf("worker %d: %v", w, err)
					}
				}
				for _, id := range mine {
					if info, err := s.Get(id); err != nil || info.Owner != uint16(w) || info.Addr() != addr {
						t.Errorf("worker %d: %+v, %v", w, info, err)
					}
					if err := s.Retire(id); err != nil {
						t.Errorf("worker %d: %v", w, err)
					}
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			if s.Len() != 0 {
				t.Errorf("Len = %d after all retired", s.Len())
			}
			return
		default:
			// What a scan reports is never a mixture of two sessions.
			s.Scan(func(live []SlotInfo) bool {
				for _, info := range live {
					if addr := info.Addr(); addr.IsValid() && addr.Port() != info.Owner+1 {
						t.Errorf("torn slot: %+v", info)
						return false
					}
				}
				return true
			})
		}
	}
}
