// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Watch keeps listeners and attachments right while links and addresses come
// and go, until ctx ends; then it returns nil. A removed interface is degraded
// until one of its name is there again, and is then attached to anew. changed,
// if not nil, is called for each attachment that becomes degraded or whole, and in
// ModeAFXDP also when it has other receive queues than before.
//
// It compares what is with what should be and trusts no single notification,
// so lost ones only cost time. It acts in the namespaces of the calling thread,
// which are those of Open.
func (i *Instance) Watch(ctx context.Context, changed func(Attachment)) error {
	for ctx.Err() == nil {
		if err := i.watchOnce(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

const (
	// watchSettle is how long after the first one notifications are gathered: they come
	// in groups, and on some hosts without end.
	watchSettle = 20 * time.Millisecond
	// While something is degraded, or the number of queues matters, of whose
	// change no notification tells.
	watchAgain = 2 * time.Second
)

// watchOnce runs until ctx ends or the kernel has dropped notifications, which
// closes the subscriptions.
func (i *Instance) watchOnce(ctx context.Context, changed func(Attachment)) error {
	done := make(chan struct{})
	links := make(chan netlink.LinkUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{}); err != nil {
		return fmt.Errorf("watching interfaces: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{}); err != nil {
		close(done)
		go drain(links)
		return fmt.Errorf("watching addresses: %w", err)
	}
	defer func() {
		close(done)
		go drain(links)
		go drain(addrs)
	}()

	next := time.NewTimer(0) // what changed before the subscription
	defer next.Stop()
	settling := true
	settle := func() {
		if !settling {
			next.Reset(watchSettle)
			settling = true
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-links:
			if !open {
				return nil
			}
			settle()
		case _, open := <-addrs:
			if !open {
				return nil
			}
			settle()
		case <-next.C:
			settling = false
			if !i.reconcile(changed) || i.countsQueues() {
				next.Reset(watchAgain)
			}
		}
	}
}

// drain lets a subscription's sender end.
func drain[T any](updates <-chan T) {
	for range updates {
	}
}

// reconcile makes attachments and listeners what they should be, and reports
// whether all of it worked.
func (i *Instance) reconcile(changed func(Attachment)) bool {
	i.mu.Lock()
	err := i.syncListeners()
	if err != nil {
		i.log.Warn("the data plane does not know all addresses of this host", "error", err)
	}
	whole := err == nil
	var changes []Attachment
	for _, a := range i.attached {
		if a.asked == ModeSocket {
			continue
		}
		before := a.Attachment
		i.repair(a)
		whole = whole && a.Degraded == ""
		if a.changed(&before) {
			changes = append(changes, a.Attachment)
		}
	}
	i.mu.Unlock()
	if changed != nil {
		for _, a := range changes {
			changed(a)
		}
	}
	return whole
}

// countsQueues reports whether the number of some interface's queues matters.
func (i *Instance) countsQueues() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range i.attached {
		if a.Mode == ModeAFXDP {
			return true
		}
	}
	return false
}

// repair looks whether an attachment still holds and attaches anew if not.
func (i *Instance) repair(a *attachment) {
	nic, err := readInterface(i.netlink, a.Interface)
	if errors.Is(err, ErrNoInterface) {
		a.close()
		a.Program, a.Degraded = 0, "the interface is gone"
		return
	}
	if err != nil {
		a.Degraded = causeOf(err)
		return
	}
	if nic.Index == a.Ifindex && a.holds() {
		a.Degraded, a.Queues, a.MTU, a.Warning = "", nic.Queues, nic.MTU, nic.warning(a.Mode)
		return
	}
	if err := i.decide(nic, a); err != nil {
		a.Degraded = causeOf(err)
		return
	}
	a.close()
	if a.Mode == ModeSocket {
		return
	}
	if err := i.attachAgain(nic, a); err != nil {
		a.Degraded = causeOf(err)
	}
}

func (i *Instance) attachAgain(nic *Interface, a *attachment) error {
	changing, err := i.pins.tryChangeLinks() // else in watchAgain
	if err != nil {
		return err
	}
	defer changing.release()
	var t transaction
	err = i.attachAsAsked(&t, nic, a)
	if err == nil {
		err = i.commit(false)
	}
	if err != nil {
		return errors.Join(err, t.rollback())
	}
	t.commit()
	return i.pins.discardStaged()
}

// changed reports whether the daemon must hear of what has changed since.
func (a *attachment) changed(since *Attachment) bool {
	return a.Degraded != since.Degraded || a.Mode != since.Mode ||
		a.Mode == ModeAFXDP && (a.Ifindex != since.Ifindex || a.Queues != since.Queues || a.MTU != since.MTU)
}

// holds reports whether the link is on its interface still.
func (a *attachment) holds() bool {
	if a.Mode == ModeSocket {
		return true
	}
	if a.link == nil {
		return false
	}
	info, err := a.link.Info()
	return err == nil && onInterface(info, a.Ifindex)
}

func onInterface(info *link.Info, index int) bool {
	xdp := info.XDP()
	return xdp != nil && int(xdp.Ifindex) == index
}
