// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/userspace/afxdp"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// queueWait is how long a queue that is in use at the start may stay so: the kernel
// frees those of a process before us a moment after its end, under load a while after.
const queueWait = 2 * time.Second

// startQueues gives the receive queues of interfaces in mode afxdp their sockets.
// Only where that mode was asked for, and no queue at all gets one, it is an error.
func (d *edge) startQueues() error {
	if err := d.instance.Maps.XSKs.Clear(); err != nil { // of a process before us
		return err
	}
	d.queues = afxdp.New(afxdp.Config{
		Sockets: d.instance.Maps.XSKs, Add: d.server.AddQueue, Port: d.server.Addr().Port(), Log: d.log,
	})
	err := d.wantQueues()
	for end := time.Now().Add(queueWait); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = d.wantQueues() {
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil || d.conf.Mode != "afxdp" {
		return nil // what is missing is in the log and in the status
	}
	for _, st := range d.queues.States() {
		if st.Bound > 0 {
			return nil
		}
	}
	return &fault{what: "no receive queue gets an AF_XDP socket", err: err, fix: "mode xdp or auto uses UDP sockets behind the same filter"}
}

func (d *edge) wantQueues() error {
	var list []afxdp.Interface
	for _, a := range d.instance.Attachments() {
		if a.Mode == loader.ModeAFXDP && a.Degraded == "" {
			list = append(list, afxdp.Interface{
				Name: a.Interface, Index: a.Ifindex, Slot: a.Slot, Queues: a.Queues, MTU: a.MTU, Copying: d.copying(a),
			})
		}
	}
	return d.queues.Want(list)
}

// copying says why an interface's sockets go without zero-copy. That clients get in
// while cookies are demanded is worth more than it.
func (d *edge) copying(a loader.Attachment) string {
	if !a.ZeroCopyMute || d.conf.Cookie == "never" {
		return ""
	}
	return fmt.Sprintf("with zero-copy driver %s loses RETRY; cookie = \"never\" does without", a.Driver)
}

// attachmentChanged follows an interface: it went, is there again, or has other queues.
func (d *edge) attachmentChanged(a loader.Attachment) {
	d.recordAttachment(a)
	if a.Degraded == "" {
		d.log.Info("an interface is attached", "interface", a.Interface, "mode", a.Mode, "reason", a.Reason)
	} else {
		d.log.Warn("an interface is degraded: its packets are not filtered", "interface", a.Interface, "cause", a.Degraded)
	}
	_ = d.wantQueues() // the Keeper has said what it lacks, and tries again
}

// followRoutes has the server forget how packets are framed when that may have
// changed, and also while nobody can tell.
func (d *edge) followRoutes(ctx context.Context) {
	for ctx.Err() == nil {
		err := afxdp.WatchRoutes(ctx, d.server.ForgetWays)
		if err == nil {
			return
		}
		d.log.Error("changes of routes and neighbours are not followed", "error", err)
		d.server.ForgetWays()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// queueItem is the AF_XDP part of an interface's status.
func queueItem(st afxdp.State) *control.AFXDP {
	item := &control.AFXDP{
		Queues: st.Queues, Bound: st.Bound, ZeroCopy: st.ZeroCopy, HugePages: st.HugePages, Memory: st.Memory, MTU: st.MTU, Copying: st.Copying,
		NoFrame: st.Drops.NoFrame, RingFull: st.Drops.RingFull,
	}
	if st.Missing != nil {
		item.Missing = st.Missing.Error()
	}
	return item
}

// queuesText is what `status` says of them: "2 of 2 queues, zero-copy, 16 MiB of
// pages as they come".
func queuesText(q *control.AFXDP) string {
	copying := "zero-copy"
	switch {
	case q.Bound == 0:
		copying = "none bound"
	case q.Copying != "":
		copying = fmt.Sprintf("copy mode (%s)", q.Copying)
	case q.ZeroCopy == 0:
		copying = "copy mode (the driver has no zero-copy)"
	case q.ZeroCopy < q.Bound:
		copying = fmt.Sprintf("zero-copy on %d of them", q.ZeroCopy)
	}
	pages := "pages as they come (vm.nr_hugepages has no huge ones left)"
	if q.HugePages == q.Bound && q.Bound > 0 {
		pages = "huge pages"
	}
	parts := []string{fmt.Sprintf("%d of %d queues", q.Bound, q.Queues), copying}
	if q.Bound > 0 {
		parts = append(parts, fmt.Sprintf("%d MiB of %s", q.Memory>>20, pages))
	}
	if n := q.NoFrame + q.RingFull; n > 0 {
		parts = append(parts, fmt.Sprintf("%d packets dropped because the reader was too slow", n))
	}
	return strings.Join(parts, ", ")
}
