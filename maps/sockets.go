// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
)

// ErrSocketRange: a group or a worker that the map has no place for.
var ErrSocketRange = fmt.Errorf("sockets are for %d groups with %d workers each", MaxGroups, MaxWorkers)

// Sockets tells the socket stage which UDP socket serves a lane of a worker: each
// has its place in the kernel's array, and one place at most. A closed socket
// leaves the array by itself. Any goroutine may call any method.
type Sockets struct {
	mu       sync.Mutex // guards program and group
	array    *ebpf.Map
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
	Cookie   uint64 // the kernel's name for the socket: SO_COOKIE, "sk" of `ss -e`
}

// socketIndex is a lane's place: lane_select of bpf/socket.h.
func socketIndex(listener, owner uint16, lane Lane) (uint32, error) {
	if listener >= MaxGroups || owner >= MaxWorkers || lane >= maxLanes {
		return 0, fmt.Errorf("%w: listener %d, worker %d, lane %d", ErrSocketRange, listener, owner, lane)
	}
	return (uint32(listener)*MaxWorkers+uint32(owner))*maxLanes + uint32(lane), nil
}

// Register makes conn, a UDP socket bound with SO_REUSEPORT, the one that gets
// the lane's packets of the owner's sessions at the listener. It takes the
// place of another socket registered for the same, in one step.
func (k *Sockets) Register(listener, owner uint16, lane Lane, conn syscall.RawConn) error {
	if k.readOnly {
		return ErrReadOnly
	}
	index, err := socketIndex(listener, owner, lane)
	if err != nil {
		return err
	}
	if err := control(conn, func(fd int) error {
		value := uint64(fd)
		return k.array.Update(&index, &value, ebpf.UpdateAny)
	}); err != nil {
		return fmt.Errorf("registering the %v socket of worker %d: %w", lane, owner, err)
	}
	return nil
}

// Unregister takes the lane's socket out; none is no error.
func (k *Sockets) Unregister(listener, owner uint16, lane Lane) error {
	if k.readOnly {
		return ErrReadOnly
	}
	index, err := socketIndex(listener, owner, lane)
	if err != nil {
		return err
	}
	if err := k.array.Delete(&index); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("taking the %v socket of worker %d out: %w", lane, owner, err)
	}
	return nil
}

// List returns the registered sockets by listener, owner and lane.
func (k *Sockets) List() ([]LaneSocket, error) {
	var list []LaneSocket
	for index := range k.array.MaxEntries() {
		var cookie uint64
		err := k.array.Lookup(&index, &cookie)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading place %d of the sockets: %w", index, err)
		}
		worker := index / maxLanes
		list = append(list, LaneSocket{
			Listener: uint16(worker / MaxWorkers), Owner: uint16(worker % MaxWorkers), Lane: Lane(index % maxLanes),
			Index: index, Cookie: cookie,
		})
	}
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
