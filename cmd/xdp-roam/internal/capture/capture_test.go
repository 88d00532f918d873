// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const dissector = "../../../../docs/wireshark/roam.lua"

// tshark prints fields of a capture's packets, a line each, tab between them.
func tshark(t *testing.T, file string, fields ...string) []string {
	t.Helper()
	program, err := exec.LookPath("tshark")
	if err != nil {
		testutil.SkipOrFail(t, "tshark is not installed: apt-get install tshark")
	}
	args := []string{"-X", "lua_script:" + dissector, "-r", file, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || strings.Contains(said.String(), "Lua") {
		t.Fatalf("tshark: %v: %s", err, said.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func record(t *testing.T, packets ...control.Packet) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "roam.pcapng")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := New(out, "test")
	for i := range packets {
		if err := w.Write(&packets[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The dissector finds every field that is not encrypted in packets that another
// implementation made, on the protocol's port and, the handshake's, elsewhere.
func TestDissector(t *testing.T) {
	text, err := os.ReadFile("../../../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Inputs struct {
			ID string `json:"handshake_id"`
		}
		Handshake struct {
			Init     string
			Cookied  string `json:"init_with_cookie"`
			Retry    string
			Resp     string
			Versions string `json:"versions_packet"`
		}
		Reset struct{ Trigger string }
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	h, id := vectors.Handshake, vectors.Inputs.ID
	retry, trigger := h.Retry, vectors.Reset.Trigger
	for _, port := range []uint16{7626, 4444} {
		var packets []control.Packet
		for _, packet := range []string{h.Init, h.Cookied, retry, h.Resp, h.Versions, trigger, "0c00"} {
			data := unhex(t, packet)
			packets = append(packets, control.Packet{
				Time: time.Unix(1, 0), Stage: "server", Verdict: "deliver", Reason: "delivered", Link: control.LinkUDP,
				Remote: netip.MustParseAddrPort("192.0.2.1:40000"), Local: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
				Bytes: len(data), Total: len(data), Data: data,
			})
		}
		got := tshark(t, record(t, packets...), "roam.type", "roam.version", "roam.handshake_id", "roam.cookie", "roam.mac1",
			"roam.noise_e", "roam.versions", "roam.counter", "roam.id", "roam.tag", "roam.malformed")
		resp := h.Resp
		want := []string{
			"0x08\t1\t" + id + "\t" + h.Init[48:80] + "\t" + h.Init[80:96] + "\t" + h.Init[96:160] + "\t\t\t\t" + h.Init[2368:] + "\t",
			"0x08\t1\t" + id + "\t" + h.Cookied[48:80] + "\t" + h.Cookied[80:96] + "\t" + h.Cookied[96:160] + "\t\t\t\t" + h.Cookied[2368:] + "\t",
			"0x09\t1\t" + id + "\t" + retry[48:] + "\t\t\t\t\t\t\t",
			"0x0a\t1\t" + id + "\t\t\t" + resp[48:112] + "\t\t\t\t" + resp[len(resp)-32:] + "\t",
			"0x0b\t0\t" + id + "\t\t\t\t1\t\t\t\t",
			"0x0c\t\t\t\t\t\t\t9\t" + trigger[16:48] + "\t" + trigger[len(trigger)-32:] + "\t",
			"0x0c\t\t\t\t\t\t\t\t\t\t1",
		}
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Errorf("port %d, packet %d:\n%q, want\n%q", port, i, got, want[i])
			}
		}
	}
}

// Whatever a packet begins with, Wireshark finds its ends, its length, its time and
// what became of it; one that was cut, or is told of alone, is not called malformed.
func TestWriter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	data := make([]byte, 100)
	wire.PutDataHeader(data, 7, wire.ID{0xab})
	base := control.Packet{
		Time: at, Stage: "server", Verdict: "deliver", Reason: "delivered", Session: wire.ID{0xcd}, Link: control.LinkUDP,
		Remote: netip.MustParseAddrPort("192.0.2.1:40000"), Local: netip.MustParseAddrPort("198.51.100.7:7626"), Bytes: 100, Total: 100, Data: data,
	}
	sent, six, cut, told := base, base, base, base
	sent.Verdict, sent.Reason = "send", "elsewhere"
	six.Remote, six.Local = netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::2]:7626")
	cut.Data = data[:24]
	told.Data, told.Link, told.Total, told.Stage, told.Verdict, told.Reason = nil, "", 0, "xdp", "drop", "id_forged"
	got := tshark(t, record(t, base, sent, six, cut, told), "frame.time_epoch", "frame.interface_name", "ip.src", "ipv6.src", "udp.srcport",
		"udp.length", "roam.counter", "frame.comment", "ip.checksum.status", "_ws.malformed")
	session := ", session cd000000000000000000000000000000"
	const when = "1767323045.123456789"
	want := []string{
		when + "\tserver\t192.0.2.1\t\t40000\t108\t7\tserver: deliver delivered" + session + "\t2\t",
		when + "\tserver\t198.51.100.7\t\t7626\t108\t7\tserver: send elsewhere" + session + "\t2\t",
		when + "\tserver\t\t2001:db8::1\t40000\t108\t7\tserver: deliver delivered" + session + "\t\t",
		when + "\tserver\t192.0.2.1\t\t40000\t108\t7\tserver: deliver delivered" + session + "\t2\t",
		when + "\txdp\t192.0.2.1\t\t40000\t108\t\txdp: drop id_forged" + session + "\t2\t",
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("packet %d:\n%q, want\n%q", i, got, want[i])
		}
	}
	if got := tshark(t, record(t), "frame.number"); len(got) != 1 || got[0] != "" {
		t.Errorf("a file without packets: %q", got)
	}
}
