// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Events implements control.Source.
func (d *source) Events() *control.Events { return &d.events }

// Workers implements control.Source.
func (d *source) Workers() []control.Worker {
	var workers []control.Worker
	for _, w := range d.server.Workers() {
		item := control.Worker{Worker: w.Worker, Dropped: w.Dropped, Lanes: w.Packets, SocketDrops: w.SocketDrops}
		for _, n := range w.Packets {
			item.Packets += n
		}
		workers = append(workers, item)
	}
	return workers
}

// eventClasses are the classes of the server's events that are not of the server itself.
var eventClasses = map[string]string{
	"session_opened": control.ClassSession, "session_closed": control.ClassSession,
	"roam_started": control.ClassMove, "roam_committed": control.ClassMove, "roam_refused": control.ClassMove, "roam_reverted": control.ClassMove,
	"session_refused": control.ClassRefusal, "session_unconfirmed": control.ClassRefusal,
	"forwarding_alarm": control.ClassAlarm, "session_policed": control.ClassAlarm, "address_lost": control.ClassAlarm,
}

// recordServer keeps an event of the server.
func (d *edge) recordServer(e server.Event) {
	class := eventClasses[e.Name]
	if class == "" {
		class = control.ClassEdge
	}
	d.events.Record(control.Event{
		Time: e.Time.UTC(), Class: class, Name: e.Name, Session: e.Session, Service: e.Service, Worker: e.Worker,
		PeerKey: e.PeerKey, PeerName: e.PeerName, Remote: e.Path, From: e.From, Reason: e.Reason,
	})
}

// recordAttachment keeps what has become of an interface.
func (d *edge) recordAttachment(a loader.Attachment) {
	e := control.Event{Time: d.env.now().UTC(), Class: control.ClassEdge, Name: "interface_attached", Reason: a.Interface + ": " + a.Reason}
	if a.Degraded != "" {
		e.Class, e.Name, e.Reason = control.ClassAlarm, "interface_degraded", a.Interface+": "+a.Degraded
	}
	d.events.Record(e)
}

// recordPackets keeps the packets that the data plane shows, until ctx ends. They are
// few, however many come: the data plane sees to that.
func (d *edge) recordPackets(ctx context.Context) {
	events, err := d.instance.Maps.Events()
	if err != nil {
		d.log.Warn("the data plane's events cannot be shown", "error", err)
		return
	}
	context.AfterFunc(ctx, func() { events.Close() })
	d.background.Go(func() {
		for {
			event, err := events.Read()
			if errors.Is(err, maps.ErrClosed) {
				return
			}
			if err != nil {
				d.log.Warn("the data plane's events cannot be shown any more", "error", err)
				return
			}
			verdict := event.Reason.Verdict(event.Stage)
			d.log.Debug("data plane", "stage", event.Stage, "verdict", verdict, "reason", event.Reason,
				"from", event.Src, "to", event.Dst, "bytes", event.Length, "id", wire.ID(event.ID))
			d.events.Record(control.Event{
				Time: d.env.now().UTC(), Class: control.ClassPacket, Name: verdict.String(), Reason: event.Reason.String(),
				Stage: event.Stage.String(), ID: event.ID, Session: d.server.SessionOf(event.ID),
				Remote: event.Src, Local: event.Dst, Bytes: event.Length,
			})
		}
	})
}
