// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package afxdp keeps an AF_XDP socket on every receive queue that should have
// one, while interfaces and their queues come and go. A queue without one loses
// nothing: XDP hands its packets on to the UDP sockets.
package afxdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// Interface is one whose queues are to have sockets.
type Interface struct {
	Name   string
	Index  int
	Slot   int // in maps.XSKs
	Queues int // those from maps.XSKQueues on get none
	MTU    int
	// Copying is why frames are to be copied though the driver may have zero-copy;
	// empty: they are not, where it has.
	Copying string
}

// Config says where the sockets go.
type Config struct {
	Sockets *maps.XSKs
	// Add gives a socket a reader: server.Server.AddQueue.
	Add func(server.Queue) (remove func() error, err error)
	// Port is the UDP port that we listen on.
	Port uint16
	Log  *slog.Logger // nil: nothing is logged
}

// State is what an interface has.
type State struct {
	Interface
	Bound     int // queues with a socket
	ZeroCopy  int // of those, the ones whose NIC writes into our memory
	HugePages int // of those, the ones with huge pages
	Memory    int // bytes for frames, all queues together
	// Missing says why queues have no socket; nil: all have.
	Missing error
	// Drops are those of the sockets that are there now.
	Drops netio.Drops
}

// Keeper keeps the sockets. Its methods may be called from several goroutines.
type Keeper struct {
	cfg   Config
	retry chan struct{}

	mu      sync.Mutex
	wanted  []Interface
	bound   map[queue]*socket
	missing map[string]error // by interface
	closed  bool
}

// queue names a receive queue. A socket is good for it as long as all of this
// stays the same: an interface that is made anew has another index.
type queue struct {
	index, slot, number, frame int
}

type socket struct {
	xsk    *netio.XSK
	remove func() error
}

// retryAfter is how long a queue that cannot be bound waits for another try. The
// kernel frees one that was closed only a moment later.
const retryAfter = 500 * time.Millisecond

// nudgeEvery is for how long at most a driver waits for frames that are there.
const nudgeEvery = time.Second

// New makes a Keeper. The caller runs Run, and Close at the end.
func New(cfg Config) *Keeper {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{cfg: cfg, retry: make(chan struct{}, 1), bound: make(map[queue]*socket), missing: make(map[string]error)}
}

// Want sets the interfaces whose queues are to have sockets: others lose theirs.
// The calling thread is in the interfaces' network namespace. The error says what
// is missing; Run goes on trying.
func (k *Keeper) Want(list []Interface) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = slices.Clone(list)
	return k.sync()
}

// Run tries again what could not be had, and looks after sleeping drivers, until ctx
// is done. It runs in the same
// network namespace as Want.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	nudge := time.NewTicker(nudgeEvery)
	defer nudge.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-nudge.C:
			k.mu.Lock()
			for _, s := range k.bound {
				s.xsk.Nudge()
			}
			k.mu.Unlock()
		case <-k.retry:
			t.Reset(retryAfter)
		case <-t.C:
			k.mu.Lock()
			if len(k.missing) > 0 {
				_ = k.sync() // said by State, and in the log
			}
			k.mu.Unlock()
		}
	}
}

// sync makes what is bound what is wanted.
func (k *Keeper) sync() error {
	if k.closed {
		return server.ErrClosed
	}
	want := make(map[queue]Interface)
	for _, i := range k.wanted {
		for number := range min(i.Queues, maps.XSKQueues) {
			want[queue{i.Index, i.Slot, number, netio.XSKFrameSize(i.MTU)}] = i
		}
	}
	for q := range k.bound {
		if _, wanted := want[q]; !wanted {
			k.unbind(q)
		}
	}
	failures := make(map[string]error)
	for q, i := range want {
		if s := k.bound[q]; s != nil {
			s.xsk.SetMTU(i.MTU)
			continue
		}
		if err := k.bind(q, i); err != nil && failures[i.Name] == nil {
			failures[i.Name] = fmt.Errorf("queue %d of %s: %w", q.number, i.Name, err)
		}
	}
	return k.report(failures)
}

func (k *Keeper) bind(q queue, i Interface) error {
	xsk, err := netio.ListenXSK(netio.XSKConfig{Interface: q.index, Queue: q.number, Port: k.cfg.Port, MTU: i.MTU, Copy: i.Copying != ""})
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("another AF_XDP socket has it: %w", err)
	}
	if err != nil {
		return err
	}
	remove, err := k.cfg.Add(xsk)
	if err != nil {
		return errors.Join(err, xsk.Close())
	}
	raw, err := xsk.SyscallConn()
	if err == nil {
		err = k.cfg.Sockets.Set(q.slot, q.number, raw)
	}
	if err != nil {
		return errors.Join(err, remove())
	}
	k.bound[q] = &socket{xsk, remove}
	return nil
}

// unbind first turns the packets away from a socket, then ends its reader.
func (k *Keeper) unbind(q queue) {
	if err := errors.Join(k.cfg.Sockets.Delete(q.slot, q.number), k.bound[q].remove()); err != nil {
		k.cfg.Log.Warn("an AF_XDP socket was not closed well", "error", err)
	}
	delete(k.bound, q)
}

// report logs what is new about what is missing, and has it tried again.
func (k *Keeper) report(failures map[string]error) error {
	var errs []error
	for name, err := range failures {
		errs = append(errs, err)
		if before := k.missing[name]; before == nil || before.Error() != err.Error() {
			k.cfg.Log.Warn("a receive queue has no AF_XDP socket: its packets come by UDP sockets", "interface", name, "error", err)
		}
	}
	for name := range k.missing {
		wanted := slices.ContainsFunc(k.wanted, func(i Interface) bool { return i.Name == name })
		if wanted && failures[name] == nil {
			k.cfg.Log.Info("all receive queues have AF_XDP sockets", "interface", name)
		}
	}
	k.missing = failures
	if len(failures) > 0 {
		select {
		case k.retry <- struct{}{}:
		default:
		}
	}
	return errors.Join(errs...)
}

// States returns what each wanted interface has, by name.
func (k *Keeper) States() []State {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []State
	for _, i := range k.wanted {
		st := State{Interface: i, Missing: k.missing[i.Name]}
		for q, s := range k.bound {
			if q.index != i.Index {
				continue
			}
			info := s.xsk.Info()
			st.Bound++
			st.ZeroCopy += one(info.ZeroCopy)
			st.HugePages += one(info.HugePages)
			st.Memory += info.Memory
			st.Drops.Add(s.xsk.Drops())
		}
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Close takes all sockets away.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for q := range k.bound {
		k.unbind(q)
	}
	k.wanted = nil
	return nil
}
