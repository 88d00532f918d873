// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
)

// Limits of AF_XDP: the interface slots of an instance, and the queues of each.
const (
	XSKInterfaces = 16
	XSKQueues     = 64
)

// ErrXSKRange: an interface slot or a queue that the map has no place for.
var ErrXSKRange = fmt.Errorf("AF_XDP sockets are for %d interfaces with %d queues each", XSKInterfaces, XSKQueues)

// XSKs tells XDP which AF_XDP socket takes the main lane of a receive queue.
// Where there is none, packets go on to the UDP sockets. A closed socket leaves
// the map by itself. Any goroutine may call any method.
type XSKs struct {
	m        *ebpf.Map
	readOnly bool

	mu sync.Mutex
	// set are the sockets that this process has put in: the kernel does not tell
	// what is in the map.
	set [XSKInterfaces * XSKQueues]bool
}

func xskIndex(slot, queue int) (uint32, error) {
	if slot < 0 || slot >= XSKInterfaces || queue < 0 || queue >= XSKQueues {
		return 0, fmt.Errorf("interface slot %d, queue %d: %w", slot, queue, ErrXSKRange)
	}
	return uint32(slot*XSKQueues + queue), nil
}

// Set makes conn, an AF_XDP socket bound to the queue, the one that gets the main
// lane of it. slot is the interface's, as roam_xdp was loaded for it.
func (k *XSKs) Set(slot, queue int, conn syscall.RawConn) error {
	index, err := xskIndex(slot, queue)
	if err != nil {
		return err
	}
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := control(conn, func(fd int) error {
		value := uint32(fd)
		return k.m.Update(&index, &value, ebpf.UpdateAny)
	}); err != nil {
		return fmt.Errorf("registering the AF_XDP socket of interface slot %d, queue %d: %w", slot, queue, err)
	}
	k.set[index] = true
	return nil
}

// Delete takes a queue's socket out; none is no error.
func (k *XSKs) Delete(slot, queue int) error {
	index, err := xskIndex(slot, queue)
	if err != nil {
		return err
	}
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.delete(index)
}

func (k *XSKs) delete(index uint32) error {
	if err := k.m.Delete(&index); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("taking an AF_XDP socket out of interface slot %d, queue %d: %w", index/XSKQueues, index%XSKQueues, err)
	}
	k.set[index] = false
	return nil
}

// Clear takes every socket out, whoever has put it in.
func (k *XSKs) Clear() error {
	if k.readOnly {
		return ErrReadOnly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for index := range uint32(len(k.set)) {
		errs = append(errs, k.delete(index))
	}
	return errors.Join(errs...)
}

// Queues returns the queues of an interface slot for which this process has put a
// socket in, in order.
func (k *XSKs) Queues(slot int) []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	var queues []int
	for queue := range XSKQueues {
		if index, err := xskIndex(slot, queue); err == nil && k.set[index] {
			queues = append(queues, queue)
		}
	}
	return queues
}
