// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// KindPacket is the kind of a document of traced packets.
const KindPacket = "Packet"

// Packet is a packet at one of the stages that it met, and what became of it there.
// What it carries is encrypted as it was on the wire.
type Packet struct {
	Time time.Time `json:"time"`
	// Stage is xdp, socket or server, Verdict and Reason those of the stage's
	// counters; a packet that the server sends has the verdict send.
	Stage   string `json:"stage"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	// Session is zero where the packet is of none, ID where it carries none.
	Session wire.ID `json:"session,omitzero"`
	ID      wire.ID `json:"id,omitzero"`
	// Counter numbers the packets of an id; it is there with Data.
	Counter *uint64 `json:"counter,omitempty"`
	// Remote is the client's end, Local the server's.
	Remote netip.AddrPort `json:"remote"`
	Local  netip.AddrPort `json:"local"`
	// Interface and Queue are known of stage xdp.
	Interface string `json:"interface,omitempty"`
	Queue     int    `json:"queue,omitzero"`
	// Bytes is the length of the UDP payload. Link is what Data begins with:
	// ethernet, ip or udp, its payload; Total the length of that before it was cut.
	Bytes int    `json:"bytes"`
	Link  string `json:"link,omitempty"`
	Total int    `json:"total_bytes,omitzero"`
	Data  []byte `json:"data,omitempty"`
	// Lost is how many packets whoever traces has missed before this one, beside
	// those that the data plane counts as trace_limit.
	Lost uint64 `json:"lost,omitzero"`
}

// What the data of a Packet begins with.
const (
	LinkEthernet = "ethernet"
	LinkIP       = "ip"
	LinkUDP      = "udp"
)

// ReadCounter sets Counter from Data, where it is a DATA packet's.
func (p *Packet) ReadCounter() {
	at := p.Total - p.Bytes
	if at < 0 || len(p.Data) < at+8 || p.Data[at] != wire.TypeData {
		return
	}
	counter := binary.BigEndian.Uint64(p.Data[at:]) & (1<<56 - 1)
	p.Counter = &counter
}

// PacketOf returns the packet that an event of ClassPacket tells of, without its data.
func PacketOf(e *Event) Packet {
	return Packet{
		Time: e.Time, Stage: e.Stage, Verdict: e.Name, Reason: e.Reason, Session: e.Session, ID: e.ID,
		Remote: e.Remote, Local: e.Local, Bytes: e.Bytes, Lost: e.Lost,
	}
}

// traceQueue is how many packets wait for whoever traces.
const traceQueue = 2048

// trace calls emit for the packets of a session, cut at snap bytes unless that is 0,
// until it ends, ctx does or emit fails. flush is called when there are no more for now.
func trace(ctx context.Context, live Live, snap int, emit func(*Packet) error, flush func() error) error {
	queue := make(chan *Packet, traceQueue)
	var lost atomic.Uint64
	stop := live.Trace(snap, func(p *Packet) {
		if p == nil {
			close(queue)
			return
		}
		select {
		case queue <- p:
		default:
			lost.Add(1)
		}
	})
	defer stop()
	if err := flush(); err != nil { // says that the trace has begun
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case p, more := <-queue:
			if !more {
				return nil
			}
			p.Lost = lost.Swap(0)
			if err := emit(p); err != nil {
				return err
			}
			if len(queue) > 0 {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// trace answers with a line for each packet.
func (a *api) trace(w http.ResponseWriter, r *http.Request) {
	p := parameters{values: r.URL.Query()}
	id, snap := p.text("session"), int(p.number("snaplen", 31))
	if err := p.done(); err != nil {
		refuse(w, err)
		return
	}
	q := SessionQuery{IDs: []string{id}, States: []string{StateAll}}
	if err := q.Check(); err != nil {
		refuse(w, err)
		return
	}
	var found []Live
	if err := each(r.Context(), a.source, func(live Live, s *Session) bool {
		if q.match(s) {
			found = append(found, live)
		}
		return len(found) < 2
	}); err != nil {
		return // whoever asked is gone, or the daemon is
	}
	if len(found) != 1 {
		refuse(w, fmt.Errorf("%d sessions have an id that begins with %s", len(found), id))
		return
	}
	w.Header().Set("Content-Type", typeLines)
	out := newPatientWriter(w)
	lines := json.NewEncoder(out)
	if err := trace(r.Context(), found[0], snap, func(p *Packet) error { return lines.Encode(p) }, out.control.Flush); err != nil {
		panic(http.ErrAbortHandler) // as with sessions
	}
}

// Trace calls f for the packets of the session that an id, or the beginning of it,
// names, cut at snap bytes unless that is 0, until f fails, ctx ends, or, without an
// error, the session does. ErrRefused where there is not one such session, ErrNotRunning where no
// daemon answers, or where it ends meanwhile.
func (c *Client) Trace(ctx context.Context, id string, snap int, f func(Packet) error) error {
	v := url.Values{"session": {id}}
	if snap > 0 {
		v.Set("snaplen", strconv.Itoa(snap))
	}
	response, err := c.ask(ctx, http.MethodPost, "trace?"+v.Encode(), typeLines, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return c.follow(response, typeLines, func(body io.Reader) error { return readLines(body, f) })
}
