// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/xdp-roam/xdp-roam/bpf"
)

func loadSpec(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadRoam()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// Numbers that operators, pinned maps and other versions rely on. A change here
// is a change of ROAM_SCHEMA (layouts) or of the operator's interface (enums).
func TestLayout(t *testing.T) {
	var (
		slot     bpf.RoamRoamSlot
		config   bpf.RoamRoamConfig
		listener bpf.RoamRoamListener
		cpu      bpf.RoamRoamCpu
		event    bpf.RoamRoamEvent
		trace    bpf.RoamRoamTrace
		key      bpf.RoamRoamCookieKey
	)
	for _, tt := range []struct {
		what      string
		got, want uintptr
	}{
		{"slot", unsafe.Sizeof(slot), 64},
		{"slot.id", unsafe.Offsetof(slot.Id), 0},
		{"slot.control", unsafe.Offsetof(slot.Control), 16},
		{"slot.addr", unsafe.Offsetof(slot.Addr), 24},
		{"slot.port", unsafe.Offsetof(slot.Port), 40},
		{"slot.seen", unsafe.Offsetof(slot.Seen), 44},
		{"slot.bucket", unsafe.Offsetof(slot.Bucket), 48},
		{"config", unsafe.Sizeof(config), 344},
		{"config.id_keys", unsafe.Offsetof(config.IdKeys), 16},
		{"config.mac1_keys", unsafe.Offsetof(config.Mac1Keys), 144},
		{"config.cookie_keys", unsafe.Offsetof(config.CookieKeys), 176},
		{"config.limits", unsafe.Offsetof(config.Limits), 272},
		{"cookie key", unsafe.Sizeof(key), 24},
		{"listener", unsafe.Sizeof(listener), 32},
		{"listener.port", unsafe.Offsetof(listener.Port), 16},
		{"listener.index", unsafe.Offsetof(listener.Index), 18},
		{"listener.flags", unsafe.Offsetof(listener.Flags), 20},
		{"cpu", unsafe.Sizeof(cpu), 1216},
		{"cpu.candidate", unsafe.Offsetof(cpu.Candidate), 1024},
		{"cpu.slow", unsafe.Offsetof(cpu.Slow), 1088},
		{"cpu.uncookied", unsafe.Offsetof(cpu.Uncookied), 1104},
		{"cpu.events_lost", unsafe.Offsetof(cpu.EventsLost), 1128},
		{"cpu.trace", unsafe.Offsetof(cpu.Trace), 1160},
		{"cpu.traces_lost", unsafe.Offsetof(cpu.TracesLost), 1176},
		{"trace", unsafe.Sizeof(trace), 2384},
		{"trace.length", unsafe.Offsetof(trace.Length), 72},
		{"trace.data", unsafe.Offsetof(trace.Data), 80},
		{"event", unsafe.Sizeof(event), 72},
		{"event.stage", unsafe.Offsetof(event.Stage), 60},
		{"event.ifindex", unsafe.Offsetof(event.Ifindex), 64},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %d, want %d", tt.what, tt.got, tt.want)
		}
	}
	if unsafe.Sizeof(cpu)%64 != 0 {
		t.Error("counters of two CPUs share a cache line")
	}
}

func TestMaps(t *testing.T) {
	spec := loadSpec(t)
	const mmapable = 1 << 10
	want := map[string]struct {
		typ                          ebpf.MapType
		key, value, entries, mapFlag uint32
	}{
		"slots":     {ebpf.Array, 4, 64, 1 << 20, mmapable},
		"config":    {ebpf.Array, 4, 344, 1, mmapable},
		"listeners": {ebpf.Array, 4, 32, 256, mmapable},
		"cpus":      {ebpf.Array, 4, 1216, 1024, mmapable},
		"events":    {ebpf.RingBuf, 0, 0, 256 << 10, 0},
		"trace":     {ebpf.RingBuf, 0, 0, 1 << 20, 0},
		"xsks":      {ebpf.XSKMap, 4, 4, 1024, 0},
		"sockets":   {ebpf.ReusePortSockArray, 4, 8, 4 * 1024 * 8, 0},
	}
	for name, m := range spec.Maps {
		w, ok := want[name]
		if !ok {
			if name != ".rodata" {
				t.Errorf("unexpected map %s", name)
			}
			continue
		}
		delete(want, name)
		if m.Type != w.typ || m.KeySize != w.key || m.ValueSize != w.value || m.MaxEntries != w.entries || m.Flags != w.mapFlag {
			t.Errorf("%s: %v key %d value %d entries %d flags %#x, want %+v",
				name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags, w)
		}
	}
	for name := range want {
		t.Errorf("no map %s", name)
	}
}

// A number once given keeps its meaning for ever.
func TestEnums(t *testing.T) {
	spec := loadSpec(t)
	for name, want := range map[string]map[string]uint64{
		"roam_stage":         {"XDP": 0, "SOCKET": 1, "MAX": 2},
		"roam_verdict":       {"PASS": 0, "DROP": 1, "TX": 2, "REDIRECT": 3, "DELIVER": 4, "MAX": 5},
		"roam_lane":          {"MAIN": 0, "CANDIDATE": 1, "HANDSHAKE": 2, "FOREIGN": 3, "SINK": 4, "MAX": 5},
		"roam_kind":          {"NONE": 0, "ROAM": 1, "QUIC": 2, "DTLS": 3},
		"roam_slot_flag":     {"POLICE": 1, "TRACE": 2},
		"roam_listener_flag": {"EVERYWHERE": 1},
		"roam_cookie_policy": {"AUTO": 0, "ALWAYS": 1, "NEVER": 2},
		"roam_reason": {
			"NOT_IP": 0, "NOT_UDP": 1, "FRAGMENT": 2, "NOT_LISTENER": 3, "EXTENSION_HEADERS": 4, "IP_MALFORMED": 5,
			"VLAN_DEPTH": 6, "UNKNOWN_PROTOCOL": 7,
			"MAIN": 16, "CANDIDATE": 17, "INIT": 18, "INIT_COOKIE": 19, "INIT_VERSION": 20, "INIT_SLOW": 21,
			"RESET": 22, "QUIC": 23, "DTLS": 24, "MAIN_XSK": 25, "UNSTEERED": 26,
			"RETRY": 32,
			"SHORT": 48, "ID_FORGED": 49, "INIT_MALFORMED": 50, "MAC1": 51, "CANDIDATE_LIMIT": 52,
			"HANDSHAKE_LIMIT": 53, "RESET_LIMIT": 54, "RETRY_FAILED": 55, "WRONG_DIRECTION": 56, "GREASE": 57,
			"SOURCE_PORT_ZERO": 58, "VERSION_LIMIT": 59, "MAIN_LIMIT": 60, "FOREIGN_UNSERVED": 61,
			"INIT_SLOW_LIMIT": 62,
			"MAX":             64,
		},
	} {
		var enum *btf.Enum
		if err := spec.Types.TypeByName(name, &enum); err != nil {
			t.Error(err)
			continue
		}
		for _, v := range enum.Values {
			short := enumPrefix.ReplaceAllString(v.Name, "")
			if name == "roam_slot_flag" || name == "roam_listener_flag" || name == "roam_cookie_policy" {
				short = lastWord.FindString(v.Name)
			}
			w, ok := want[short]
			if !ok {
				t.Errorf("%s: %s = %d is not pinned here", name, v.Name, v.Value)
			} else if w != v.Value {
				t.Errorf("%s: %s is %d, was %d", name, v.Name, v.Value, w)
			}
			delete(want, short)
		}
		for short, value := range want {
			t.Errorf("%s: %s = %d is gone", name, short, value)
		}
	}
}

var (
	enumPrefix = regexp.MustCompile(`^ROAM_(STAGE|VERDICT|LANE|KIND|REASON)_`)
	lastWord   = regexp.MustCompile(`[A-Z]+$`)
)

// The committed object is made from the committed headers: at least its enum is.
func TestReasonsMatchSource(t *testing.T) {
	source, err := os.ReadFile("types.h")
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := loadSpec(t).Types.TypeByName("roam_reason", &enum); err != nil {
		t.Fatal(err)
	}
	generated := map[string]uint64{}
	for _, v := range enum.Values {
		generated[v.Name] = v.Value
	}
	lines := regexp.MustCompile(`(ROAM_REASON_\w+) = (\d+),`).FindAllStringSubmatch(string(source), -1)
	if len(lines) != len(generated) {
		t.Errorf("types.h names %d reasons, the object %d: run go generate", len(lines), len(generated))
	}
	for _, m := range lines {
		n, err := strconv.ParseUint(m[2], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := generated[m[1]]; !ok || got != n {
			t.Errorf("%s is %d in types.h and %d in the object: run go generate", m[1], n, got)
		}
	}
}

func TestLicense(t *testing.T) {
	for name, prog := range loadSpec(t).Programs {
		if prog.License != "Dual BSD/GPL" {
			t.Errorf("%s has the licence %q", name, prog.License)
		}
	}
}
