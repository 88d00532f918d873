// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
)

// ErrSocketsFull: no index of the socket array is free.
var ErrSocketsFull = errors.New("socket array is full")

// Sockets tells the socket stage which UDP socket serves a lane of a worker.
// A socket stands at one index of the kernel's array at most, so a second map
// names the index for each (listener, owner, lane). A closed socket leaves the
// array by itself. Any goroutine may call any method.
type Sockets struct {
	mu       sync.Mutex
	array    *ebpf.Map
	lanes    *ebpf.Map
	program  *ebpf.Program   // roam_socket, once it is loaded
	group    syscall.RawConn // that it was attached to last
	readOnly bool
}

// LaneSocket is one entry: the worker's socket for the lane.
type LaneSocket struct {
	Listener uint16 // Listener.Index
	Owner    uint16 // worker
	Lane     Lane
	Index    uint32 // in the socket array
	Open     bool   // whether a socket stands there now
}

// Register makes conn, a UDP socket bound with SO_REUSEPORT, the one that gets
// the lane's packets of the owner's sessions at the listener. It takes the
// place of another socket registered for the same.
func (k *Sockets) Register(listener, owner uint16, lane Lane, conn syscall.RawConn) error {
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := laneKey{Listener: listener, Owner: owner, Lane: uint16(lane)}
	var old uint32
	replaces := k.lanes.Lookup(&key, &old) == nil

	var index uint32
	if err := control(conn, func(fd int) (err error) {
		index, err = k.insert(fd)
		return err
	}); err != nil {
		return fmt.Errorf("registering the %v socket of worker %d: %w", lane, owner, err)
	}
	if err := k.lanes.Update(&key, &index, ebpf.UpdateAny); err != nil {
		return errors.Join(fmt.Errorf("registering the %v socket of worker %d: %w", lane, owner, err), k.remove(index))
	}
	if replaces {
		return k.remove(old)
	}
	return nil
}

// insert puts a socket at the first free index.
func (k *Sockets) insert(fd int) (uint32, error) {
	value := uint64(fd)
	for index := range k.array.MaxEntries() {
		err := k.array.Update(&index, &value, ebpf.UpdateNoExist)
		if !errors.Is(err, ebpf.ErrKeyExist) {
			return index, err
		}
	}
	return 0, fmt.Errorf("%w: %d sockets", ErrSocketsFull, k.array.MaxEntries())
}

// remove frees an index; one that its socket has left by closing is no error.
func (k *Sockets) remove(index uint32) error {
	if err := k.array.Delete(&index); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("freeing index %d of the socket array: %w", index, err)
	}
	return nil
}

// Unregister takes the lane's socket out; none is no error.
func (k *Sockets) Unregister(listener, owner uint16, lane Lane) error {
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unregister(laneKey{Listener: listener, Owner: owner, Lane: uint16(lane)})
}

func (k *Sockets) unregister(key laneKey) error {
	var index uint32
	if err := k.lanes.Lookup(&key, &index); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		return fmt.Errorf("looking up a lane: %w", err)
	}
	if err := k.lanes.Delete(&key); err != nil {
		return fmt.Errorf("removing a lane: %w", err)
	}
	return k.remove(index)
}

// Clear takes every socket out. A process that adopts the maps of one that
// crashed calls it first: their sockets are closed, their lanes lead nowhere.
func (k *Sockets) Clear() error {
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	var keys []laneKey
	var key laneKey
	var index uint32
	entries := k.lanes.Iterate()
	for entries.Next(&key, &index) {
		keys = append(keys, key)
	}
	errs = append(errs, entries.Err())
	for _, key := range keys {
		errs = append(errs, k.unregister(key))
	}
	return errors.Join(errs...)
}

// List returns the registered sockets by listener, owner and lane.
func (k *Sockets) List() ([]LaneSocket, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []LaneSocket
	var key laneKey
	var index uint32
	entries := k.lanes.Iterate()
	for entries.Next(&key, &index) {
		var cookie uint64
		list = append(list, LaneSocket{
			Listener: key.Listener, Owner: key.Owner, Lane: Lane(key.Lane), Index: index,
			Open: k.array.Lookup(&index, &cookie) == nil,
		})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading the lanes: %w", err)
	}
	slices.SortFunc(list, func(a, b LaneSocket) int {
		if c := int(a.Listener) - int(b.Listener); c != 0 {
			return c
		}
		if c := int(a.Owner) - int(b.Owner); c != 0 {
			return c
		}
		return int(a.Lane) - int(b.Lane)
	})
	return list, nil
}

// setProgram makes program, or none, the one that Attach attaches.
func (k *Sockets) setProgram(program *ebpf.Program) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.program != nil {
		_ = k.program.Close()
	}
	k.program = program
}

// ErrNoProgram: the socket stage's program has not been loaded.
var ErrNoProgram = errors.New("roam_socket is not loaded")

// Attach lets roam_socket choose among the sockets of conn's reuseport group.
// Once for each group is enough; it replaces what was attached before.
func (k *Sockets) Attach(conn syscall.RawConn) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.program == nil {
		return ErrNoProgram
	}
	if err := attach(conn, k.program); err != nil {
		return err
	}
	k.group = conn
	return nil
}

func attach(conn syscall.RawConn, program *ebpf.Program) error {
	if err := control(conn, func(fd int) error { return attachReuseport(fd, program.FD()) }); err != nil {
		return fmt.Errorf("attaching roam_socket to the reuseport group: %w", err)
	}
	return nil
}

// PinProgram pins roam_socket at path, for another process to take.
func (k *Sockets) PinProgram(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.program == nil {
		return ErrNoProgram
	}
	return k.program.Pin(path)
}

// TakeProgram puts the roam_socket that is pinned at path, of this version or another,
// in the place of ours: for the group that Attach was called for in one step, in which
// no packet goes without, and for those of later.
func (k *Sockets) TakeProgram(path string) error {
	program, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return fmt.Errorf("taking roam_socket: %w", err)
	}
	if program.Type() != ebpf.SkReuseport {
		return errors.Join(fmt.Errorf("taking roam_socket: %s is a program of type %v", path, program.Type()), program.Close())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.group != nil {
		if err := attach(k.group, program); err != nil {
			return errors.Join(err, program.Close())
		}
	}
	if k.program != nil {
		_ = k.program.Close()
	}
	k.program = program
	return nil
}

// control calls f with the connection's descriptor.
func control(conn syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
