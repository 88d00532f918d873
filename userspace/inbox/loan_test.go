// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

func TestLend(t *testing.T) {
	b := newInbox(0)
	if dropped := b.Push([]byte("one"), []byte("two"), nil, make([]byte, 5000), []byte("five")); dropped != 1 {
		t.Errorf("%d dropped, want the one that exceeds the limit", dropped)
	}
	var l Loan
	got, err := b.Lend(done(), &l)
	if err != nil || len(got) != 4 || string(got[0]) != "one" || string(got[1]) != "two" || len(got[2]) != 0 || string(got[3]) != "five" {
		t.Fatalf("%q, %v", got, err)
	}
	if _ = append(got[0], "over the next one"...); string(got[1]) != "two" {
		t.Error("who appends to a datagram writes into the next")
	}
	b.Push([]byte("later"))
	if string(got[0]) != "one" {
		t.Errorf("what came later overwrote a datagram that is lent: %q", got[0])
	}
	b.Close(errors.New("over"))
	if string(got[3]) != "five" {
		t.Errorf("closing the inbox took %q", got[3])
	}
	if got, err = b.Lend(done(), &l); err != nil || len(got) != 1 || string(got[0]) != "later" {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err = b.Lend(done(), &l); len(got) != 0 || err == nil || err.Error() != "over" {
		t.Errorf("a closed one: %q, %v", got, err)
	}
	if b.queue.first != nil || l.from != nil {
		t.Error("memory is held for nothing")
	}
	l.Return() // of nothing
}

func TestLendAtMost(t *testing.T) {
	b := newInbox(1 << 16)
	for i := range MaxLoan + 10 {
		b.Push([]byte{byte(i)})
	}
	var l Loan
	if got, err := b.Lend(done(), &l); err != nil || len(got) != MaxLoan || got[0][0] != 0 {
		t.Fatalf("%d of %d, %v", len(got), MaxLoan, err)
	}
	if got, err := b.Lend(done(), &l); err != nil || len(got) != 10 || got[0][0] != MaxLoan {
		t.Fatalf("%d of 10, %v", len(got), err)
	}
	if _, err := b.Lend(done(), &l); !errors.Is(err, context.Canceled) {
		t.Errorf("an empty one: %v", err)
	}
}

// model is what an inbox with loans is to do.
type model struct {
	t       *testing.T
	boxes   [2]*Inbox // blocks go from one to the other
	waiting [2][][]byte
	loans   [3]Loan
	lent    [3][2][][]byte // as lent, and a copy
	rng     *rand.Rand
}

// step does one thing and sees whether all that is lent is as it was.
func (m *model) step(op, size byte) {
	i := int(op>>4) % len(m.boxes)
	b, reader := m.boxes[i], int(op>>5)%len(m.loans)
	switch op % 4 {
	case 0, 1: // some datagrams, at 1 made in place
		var room []byte
		n := int(size) * 40
		if op%4 == 1 {
			room = b.Reserve(3 * (Headroom + n))
		}
		var ds [][]byte
		for range 3 {
			d := make([]byte, n)
			if len(room) >= Headroom+n {
				d, room = room[Headroom:Headroom+n:Headroom+n], room[Headroom+n:]
			}
			for j := range d {
				d[j] = byte(m.rng.Uint32())
			}
			ds = append(ds, d)
		}
		m.check() // what is made there is nobody's yet
		before := len(m.waiting[i])
		for _, d := range ds {
			m.waiting[i] = append(m.waiting[i], bytes.Clone(d))
		}
		m.waiting[i] = m.waiting[i][:before+3-b.Push(ds...)] // all are as long: the last ones did not fit
	case 2:
		m.give(reader)
		got, err := b.Lend(done(), &m.loans[reader])
		want := min(len(m.waiting[i]), MaxLoan)
		if len(got) != want || (err == nil) != (want > 0) {
			m.t.Fatalf("%d of %d datagrams were lent, %v", len(got), want, err)
		}
		m.lent[reader] = [2][][]byte{got, m.waiting[i][:want]}
		m.waiting[i] = m.waiting[i][want:]
	case 3:
		if size%2 == 0 {
			m.loans[reader].Return()
			m.give(reader)
			break
		}
		p := make([]byte, 1<<14)
		n, err := b.Receive(done(), p)
		if len(m.waiting[i]) == 0 {
			if err == nil {
				m.t.Fatal("a datagram came from nowhere")
			}
			break
		}
		if err != nil || !bytes.Equal(p[:n], m.waiting[i][0]) {
			m.t.Fatalf("another datagram came out, %v", err)
		}
		m.waiting[i] = m.waiting[i][1:]
	}
	m.check()
}

// give has a reader forget what it was lent, after a last look.
func (m *model) give(reader int) { m.lent[reader] = [2][][]byte{} }

func (m *model) check() {
	for r := range m.lent {
		for i, d := range m.lent[r][0] {
			if !bytes.Equal(d, m.lent[r][1][i]) {
				m.t.Fatalf("datagram %d of reader %d has changed", i, r)
			}
		}
	}
}

// end sees that no memory is left anywhere.
func (m *model) end() {
	for i := range m.loans {
		m.loans[i].Return()
	}
	for _, b := range m.boxes {
		for !b.queue.empty() {
			if _, err := b.Lend(done(), &m.loans[0]); err != nil {
				m.t.Fatal(err)
			}
		}
		m.loans[0].Return()
		if b.queue.first != nil || b.queue.last != nil {
			m.t.Fatal("an empty inbox holds memory")
		}
	}
}

func newModel(t *testing.T) *model {
	return &model{t: t, boxes: [2]*Inbox{newInbox(1 << 17), newInbox(1 << 15)}, rng: rand.New(rand.NewPCG(1, 2))}
}

func TestLoans(t *testing.T) {
	m := newModel(t)
	for range 20000 {
		m.step(byte(m.rng.Uint32()), byte(m.rng.Uint32()))
	}
	m.end()
}

func FuzzLoans(f *testing.F) {
	f.Add([]byte{1, 200, 2, 0, 1, 100, 0x23, 1, 3, 0, 0x11, 255, 0x32, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newModel(t)
		for len(ops) >= 2 {
			m.step(ops[0], ops[1])
			ops = ops[2:]
		}
		m.end()
	})
}

// Readers that hold their loans for a while, and a writer that makes datagrams in place
// meanwhile: each datagram is lent once and is whole until it is returned.
func TestLoansRace(t *testing.T) {
	const readers, batches, each, size = 4, 400, 8, 1000
	b := newInbox(1 << 18)
	var seen sync.Map
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			var l Loan
			for {
				ds, err := b.Lend(context.Background(), &l)
				if err != nil {
					return
				}
				runtime.Gosched()
				for _, d := range ds {
					number := binary.BigEndian.Uint32(d)
					if !bytes.Equal(d[4:], bytes.Repeat([]byte{byte(number)}, size-4)) {
						t.Errorf("datagram %d is not whole", number)
					}
					if _, again := seen.LoadOrStore(number, true); again {
						t.Errorf("datagram %d was lent twice", number)
					}
				}
			}
		})
	}
	dropped := 0
	ds := make([][]byte, each)
	for batch := range batches {
		room := b.Reserve(each * (Headroom + size))
		for i := range ds {
			d := make([]byte, size)
			if len(room) >= Headroom+size {
				d, room = room[Headroom:Headroom+size], room[Headroom+size:]
			}
			number := batch*each + i
			binary.BigEndian.PutUint32(d, uint32(number))
			copy(d[4:], bytes.Repeat([]byte{byte(number)}, size-4))
			ds[i] = d
		}
		dropped += b.Push(ds...)
		runtime.Gosched()
	}
	b.Close(errors.New("over"))
	group.Wait()
	got := 0
	seen.Range(func(any, any) bool { got++; return true })
	if got != batches*each-dropped || got == 0 {
		t.Errorf("%d datagrams were lent, %d were to be", got, batches*each-dropped)
	}
	if b.queue.first != nil {
		t.Error("an empty inbox holds memory")
	}
}

func TestLoanAllocations(t *testing.T) {
	if testutil.Race {
		t.Skip("sync.Pool allocates at random under the race detector")
	}
	b := newInbox(1 << 17)
	p, ctx := make([]byte, 1200), t.Context()
	var l Loan
	if n := testing.AllocsPerRun(200, func() {
		for range 8 {
			b.Push(p)
		}
		if ds, err := b.Lend(ctx, &l); len(ds) != 8 || err != nil {
			t.Fatal(len(ds), err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for eight datagrams", n)
	}
}
