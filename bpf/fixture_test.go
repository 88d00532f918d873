// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/maps"
)

// fixture is a file of testdata/packets, whose README.md describes the format.
type fixture struct {
	about           string
	verdict, reason string
	always          bool // a cookie is demanded
	sessions        []session
	in, out         []byte // out is nil where the frame stays as it was
}

func readFixture(file string) (f fixture, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	frame := &f.in
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		said, ok := strings.CutPrefix(line, "# ")
		key, value, _ := strings.Cut(said, ": ")
		switch {
		case !ok:
			_, octets, _ := strings.Cut(line, "  ")
			var b []byte
			b, err = hex.DecodeString(strings.ReplaceAll(octets, " ", ""))
			*frame = append(*frame, b...)
		case i == 0:
			f.about = said
		case key == "verdict":
			f.verdict = value
		case key == "reason":
			f.reason = value
		case key == "cookie":
			f.always = value == "always"
		case key == "session":
			err = f.addSession(value)
		case said == "in":
		case said == "out":
			frame = &f.out
		default:
			err = fmt.Errorf("unknown line %q", line)
		}
		if err != nil {
			return f, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return f, nil
}

// addSession takes an id, a kind and an address.
func (f *fixture) addSession(text string) error {
	var id, kind, path string
	if _, err := fmt.Sscan(text, &id, &kind, &path); err != nil {
		return err
	}
	s := session{kind: map[string]bpf.RoamRoamKind{
		"roam": bpf.RoamRoamKindROAM_KIND_ROAM, "quic": bpf.RoamRoamKindROAM_KIND_QUIC, "dtls": bpf.RoamRoamKindROAM_KIND_DTLS,
	}[kind]}
	if n, err := hex.Decode(s.id[:], []byte(id)); err != nil || n != len(s.id) || s.kind == 0 {
		return fmt.Errorf("no session: %q: %v", text, err)
	}
	var err error
	s.path, err = netip.ParseAddrPort(path)
	f.sessions = append(f.sessions, s)
	return err
}

// Packets kept as files: the bytes that came in, the verdict, the reason, the
// bytes that go out. Both the data plane and its reference in Go must agree with
// them, and some packet must stand for every reason that one packet can have in XDP.
func TestPacketFixtures(t *testing.T) {
	p := newPlane(t)
	files, err := filepath.Glob("../testdata/packets/*.hex")
	p.must(err)
	seen := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hex"), func(t *testing.T) {
			p := p.on(t)
			f, err := readFixture(file)
			p.must(err)
			seen[f.reason] = true
			f.check(p)
		})
	}
	more := map[maps.Reason]string{
		maps.ReasonCandidateLimit: "a limit", maps.ReasonHandshakeLimit: "a limit", maps.ReasonResetLimit: "a limit",
		maps.ReasonVersionLimit: "a limit", maps.ReasonMainLimit: "a limit", maps.ReasonMainXSK: "needs an AF_XDP socket",
		maps.ReasonUnsteered: "of the socket stage", maps.ReasonForeignUnserved: "of the socket stage",
	}
	for r := range maps.Reasons {
		if more[r] == "" && !seen[r.String()] {
			t.Errorf("testdata/packets has no packet for %v", r)
		}
	}
}

func (f *fixture) check(p *plane) {
	t := p.t
	p.clear()
	p.listen(server4, 0, 0)
	p.listen(server6, 0, 0)
	policy := policyNever
	if f.always {
		policy = policyAlways
	}
	p.setHandshake(policy)
	ref := &reference{
		listeners: map[netip.AddrPort]bool{server4: true, server6: true}, serverID: testServerID,
		mac1: testMAC1Key, cookies: testCookies, now: testTime, always: f.always, sessions: map[sessionID]session{},
	}
	ref.keys[0], ref.keys[1] = idKeys[0], idKeys[1]
	for _, s := range f.sessions {
		p.store(s)
		ref.sessions[s.id] = s
	}
	got := p.run(f.in)
	if reason := maps.Reason(got.reason); reason.String() != f.reason || reason.Verdict(maps.StageXDP).String() != f.verdict {
		t.Errorf("%s: %v, %v; want %s, %s", f.about, reason.Verdict(maps.StageXDP), reason, f.verdict, f.reason)
	}
	if actions := map[uint32]string{xdpPass: "pass", xdpDrop: "drop", xdpTX: "tx"}; actions[got.action] != f.verdict {
		t.Errorf("%s: action %d; want %s", f.about, got.action, f.verdict)
	}
	if reason := maps.Reason(ref.judge(f.in)); reason.String() != f.reason {
		t.Errorf("%s: the reference says %v; want %s", f.about, reason, f.reason)
	}
	want := f.out
	if want == nil {
		want = f.in
	}
	if !bytes.Equal(got.out, want) {
		t.Errorf("%s: out comes\n%swant\n%s", f.about, hex.Dump(got.out), hex.Dump(want))
	}
}
