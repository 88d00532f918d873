// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"image"
	"image/color"
	_ "image/png"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// pictures, if set, is a directory for the pictures that the tests take of the page,
// and loadFor how long they show what a few clients do that roam.
var (
	pictures   = os.Getenv("XDP_ROAM_PICTURES")
	loadFor, _ = time.ParseDuration(os.Getenv("XDP_ROAM_PICTURES_LOAD"))
)

// digits reads a number that is written with thin spaces.
func digits(text string) uint64 {
	n, err := strconv.ParseUint(strings.ReplaceAll(text, "\u202f", ""), 10, 64)
	if err != nil {
		return 1 << 63
	}
	return n
}

// The page, in a browser, says what the edge says; it fits a phone, in light and in
// dark, and loads nothing that its policy forbids.
func TestStatusPage(t *testing.T) {
	b := newLabBench(t)
	w := b.browse()
	b.startEdge("--mode", "xdp", "--interface", "edge0", "--page")
	nat := b.newRebinder(4 * time.Millisecond)
	program := b.through(nat, 5007)
	ask(t, program, "before")
	w.resize(1200, 800, "light")
	w.open("http://127.0.0.1:9626/")
	until(t, "the page is live", func() bool { return w.text("state") == "live" })
	forge(b, 25)
	nat.rebind()
	ask(t, program, "after")
	if pictures != "" {
		b.roamAbout(program, nat, loadFor)
	}

	var differ []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if differ = differences(b, w); len(differ) == 0 {
			break
		}
	}
	if len(differ) > 0 {
		t.Errorf("the page says something else than the edge: %q", differ)
	}
	if text := w.text("switch"); !strings.HasSuffix(text, " ms") && !strings.HasSuffix(text, " s") {
		t.Errorf("a switch over 8 ms took %q", text)
	}
	for id, want := range map[string]string{"facts": "edge default · mode xdp · version ", "t-interfaces": "edge0\tnative\tok", "t-services": "7\t1\t0\t0\t0"} {
		if text := w.text(id); !strings.Contains(text, want) && loadFor == 0 {
			t.Errorf("%s says %q, want %q", id, text, want)
		}
	}
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int{1200, 390} {
			checkLooks(t, w, width, theme)
		}
	}
	// For who does not see the charts: each says its numbers.
	if n := w.eval(`[...document.querySelectorAll("figure > svg")].filter(s => s.getAttribute("aria-label").length > 20).length`); n != "4" {
		t.Errorf("%s of 4 charts have a label", n)
	}
	if list := w.complaints(); len(list) > 0 {
		t.Errorf("the browser complains: %s", list)
	}
}

// forge sends packets with made-up ids from the client's host.
func forge(b *labBench, n int) {
	b.t.Helper()
	var conn net.Conn
	if err := b.client.Do(func() (err error) {
		conn, err = net.Dial("udp", net.JoinHostPort(edgeAddr.String(), strconv.Itoa(wire.DefaultPort)))
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	packet := make([]byte, 100)
	for range n {
		rand.Read(packet)
		wire.PutDataHeader(packet, 1, wire.ID(packet[40:56]))
		if _, err := conn.Write(packet); err != nil {
			b.t.Fatal(err)
		}
	}
}

// differences lists where the page says something else than the edge.
func differences(b *labBench, w *browser) (list []string) {
	b.t.Helper()
	want := make(map[string]uint64)
	for _, c := range items[control.Counter](b, "stats") {
		if c.Verdict == "drop" && !strings.HasPrefix(c.Reason, "queue_") && !strings.HasPrefix(c.Reason, "datagram_") && c.Reason != "send_refused" {
			want["drops"] += c.Value
			want[c.Stage+" "+c.Reason] = c.Value
		}
		if c.Verdict == "event" || c.Verdict == "answer" {
			want[c.Reason] = c.Value
		}
	}
	status := items[control.Status](b, "status")[0]
	differ := func(what, shown string, want uint64) {
		if digits(shown) != want {
			list = append(list, fmt.Sprintf("%s: %q, want %d", what, shown, want))
		}
	}
	words := func(id string) []string {
		return append(strings.Fields(strings.ReplaceAll(w.text(id), "\u202f", "")), "", "", "")
	}
	differ("sessions", w.text("sessions"), status.Sessions)
	differ("opened", words("sessions-more")[4], want["sessions_opened"])
	roams := words("roams-more")
	differ("committed", roams[0], want["roams_committed"])
	differ("started", roams[3], want["roams_started"])
	differ("drops", words("drops-more")[0], want["drops"])
	differ("ids", words("table-more")[0], status.TableUsed)
	differ("capacity", words("table-more")[2], status.TableSlots/4*3)
	for row := range strings.Lines(w.text("t-handshakes")) {
		if cells := strings.Split(strings.TrimSpace(row), "\t"); cells[0] == "accepted" {
			differ("handshakes", cells[2], want["resp_accepted"])
		}
	}
	forged := false
	for row := range strings.Lines(w.text("t-drops")) {
		if cells := strings.Split(strings.TrimSpace(row), "\t"); len(cells) == 4 && cells[0] != "Reason" {
			differ(cells[0], cells[3], want[cells[1]+" "+cells[0]])
			forged = forged || cells[0] == "id_forged"
		}
	}
	if !forged {
		list = append(list, "no id_forged among the drops")
	}
	return list
}

// checkLooks sees that the page fits its window and has been painted.
func checkLooks(t *testing.T, w *browser, width int, theme string) {
	t.Helper()
	w.resize(width, 800, theme)
	// The charts are drawn as broad as they are shown with the next look.
	until(t, fmt.Sprintf("the page fits %d pixels", width), func() bool {
		return w.eval("document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll('figure > svg')].every(s => Math.abs(s.viewBox.baseVal.width - s.clientWidth) < 2)") == "true"
	})
	text := w.picture()
	picture, _, err := image.Decode(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	corner := color.GrayModel.Convert(picture.At(1, 1)).(color.Gray).Y
	if (corner < 128) != (theme == "dark") {
		t.Errorf("%s at %d pixels: the ground is %d of 255", theme, width, corner)
	}
	if picture.Bounds().Dx() != width || picture.Bounds().Dy() < 800 {
		t.Errorf("the picture of %d pixels is %v", width, picture.Bounds())
	}
	if pictures != "" {
		name := filepath.Join(pictures, fmt.Sprintf("page-%s-%d.png", theme, width))
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// roamAbout lets some clients talk and move for a while.
func (b *labBench) roamAbout(program *net.UDPConn, nat *rebinder, d time.Duration) {
	end := time.Now().Add(d)
	type walker struct {
		nat     *rebinder
		program *net.UDPConn
	}
	walkers := []walker{{nat, program}}
	for i := range 5 {
		nat := b.newRebinder(time.Duration(3+7*i) * time.Millisecond)
		walkers = append(walkers, walker{nat, b.through(nat, uint16(5100+i))})
	}
	for tick := 0; time.Now().Before(end); tick++ {
		for i, w := range walkers {
			for range 1 + tick/200%4 {
				_, _ = w.program.Write([]byte("hello"))
			}
			if tick%(37+11*i) == 0 {
				w.nat.rebind()
			}
		}
		if tick%20 == 0 {
			forge(b, 20+tick%90)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Beyond loopback the page asks for the token, and takes no other.
func TestStatusPageToken(t *testing.T) {
	b := newLabBench(t)
	if err := os.WriteFile(b.path("token"), []byte(metricsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := b.browse()
	b.startEdge("--mode", "none", "--metrics", edgeAddr.String()+":9626", "--metrics-token-file", b.path("token"), "--page")
	w.resize(390, 800, "light")
	w.open("http://" + edgeAddr.String() + ":9626/")
	enter := func(token string) {
		w.eval(fmt.Sprintf(`(document.getElementById("token").value = %q, document.querySelector("#ask button").click())`, token))
	}
	until(t, "the page asks for the token", func() bool { return w.text("state") == "locked" })
	if shown := w.eval(`document.getElementById("main").hidden`); shown != "true" {
		t.Error("numbers are shown without the token")
	}
	enter("not the token at all")
	until(t, "the page refuses another token", func() bool { return strings.Contains(w.text("refused"), "not the token") })
	enter(metricsToken)
	until(t, "the page is live", func() bool { return w.text("state") == "live" && w.text("sessions") == "0" })
	for _, text := range w.complaints() {
		if !strings.Contains(text, "401") { // which the browser tells of
			t.Errorf("the browser complains: %s", text)
		}
	}
}
