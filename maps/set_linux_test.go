// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// privateNamespaces moves the test into network and mount namespaces of its
// own, with loopback up, and returns the directory of a bpffs there. The
// test's thread ends with it, and with that everything it made.
func privateNamespaces(t testing.TB) string {
	t.Helper()
	testutil.RequirePrivileged(t)
	runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		testutil.SkipOrFail(t, "cannot make namespaces: "+err.Error())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, 0) })
	dir := filepath.Join(root, "maps") // the kernel keeps files of its own in the root
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	return dir
}

func createSet(t testing.TB, slots uint32) *Set {
	t.Helper()
	s, err := Create(slots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Identify(0, testKey); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPinnedSet(t *testing.T) {
	dir := privateNamespaces(t)
	s := createSet(t, 1024)
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	id, _, err := s.Sessions.Allocate(KindROAM, 7)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("192.0.2.10:40000")
	if err := s.Sessions.Commit(id, addr); err != nil {
		t.Fatal(err)
	}
	if err := s.Listeners.Add(at("192.0.2.1:7626")); err != nil {
		t.Fatal(err)
	}

	// Through the system call the kernel shows what the mapping wrote.
	info, _ := s.Sessions.Get(id)
	value, err := s.raw[mapSlots].LookupBytes(info.Slot)
	if err != nil || !bytes.Equal(value[:16], id[:]) {
		t.Errorf("the kernel's slot: %x, %v", value, err)
	}

	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := r.Sessions.Get(id); err != nil || got.Addr() != addr || got.Owner != 7 {
		t.Errorf("read-only: %+v, %v", got, err)
	}
	if r.Sessions.Capacity() != 1024 || r.Sessions.Len() != 1 {
		t.Errorf("read-only: %d slots, %d live", r.Sessions.Capacity(), r.Sessions.Len())
	}
	if got := r.Listeners.List(); len(got) != 1 {
		t.Errorf("read-only listeners: %v", got)
	}
	for name, err := range map[string]error{
		"Commit":     r.Sessions.Commit(id, addr),
		"Retire":     r.Sessions.Retire(id),
		"Identify":   r.Identify(0, testKey),
		"Add":        r.Listeners.Add(at("192.0.2.2:7626")),
		"Remove":     r.Listeners.Remove(addr),
		"Replace":    r.Listeners.Replace(nil),
		"SetLimits":  r.Config.SetLimits(Limits{}),
		"Unregister": r.Sockets.Unregister(0, 0, LaneMain),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("read-only %s: %v, want ErrReadOnly", name, err)
		}
	}
	if _, _, err := r.Sessions.Allocate(KindROAM, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only Allocate: %v", err)
	}
	if _, err := r.Sessions.FreeStale(KindROAM); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only FreeStale: %v", err)
	}
	if _, err := r.Events(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only Events: %v", err)
	}

	list, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
		if m.ID == 0 || m.Type == "" || m.MaxEntries == 0 {
			t.Errorf("map list: %+v", m)
		}
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("map list: %v", names)
	}

	// The next process after a crash: its own keys, the old ids in the slots.
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, _, err := w.Sessions.Allocate(KindROAM, 0); !errors.Is(err, ErrNoKey) {
		t.Errorf("Allocate before Identify: %v, want ErrNoKey", err)
	}
	if err := w.Identify(0, testKey); err != nil {
		t.Fatal(err)
	}
	if freed, err := w.Sessions.FreeStale(KindROAM); err != nil || freed != 1 {
		t.Errorf("FreeStale: %d, %v", freed, err)
	}
	if _, tag := s.Sessions.Find(id); tag != TagOurs {
		t.Errorf("a stale id is %v through the first mapping", tag)
	}
}

func TestOpenRefusesAnotherSchema(t *testing.T) {
	dir := privateNamespaces(t)
	s := createSet(t, 64)
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	s.Config.entry.Schema = 99
	_, err := Open(dir)
	var schema *SchemaError
	if !errors.As(err, &schema) || schema.Pinned != 99 || schema.Own != Schema {
		t.Errorf("Open: %v", err)
	}
}

func TestFailedPinLeavesNothing(t *testing.T) {
	dir := privateNamespaces(t)
	s := createSet(t, 64)
	if err := os.Mkdir(filepath.Join(dir, mapSockets), 0o700); err != nil { // the last one's name is taken
		t.Fatal(err)
	}
	if err := s.Pin(dir); err == nil {
		t.Fatal("pinned over a directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != mapSockets {
		t.Errorf("left behind: %v", entries)
	}
}

func TestConfig(t *testing.T) {
	privateNamespaces(t)
	s := createSet(t, 64)
	got := s.Config.Read()
	if got.Schema != Schema || got.Slots != 64 || got.Limits != DefaultLimits() || !slices.Equal(got.IDKeys, []int{0}) {
		t.Errorf("a new instance's configuration: %+v", got)
	}
	key := ascending()
	for _, err := range []error{
		s.Identify(0x1234, testKey),
		s.Config.SetMAC1Keys(key, key),
		s.Config.SetMAC1Keys(key),
		s.Config.SetCookieKey(29453760, key),
		s.Config.SetCookieKey(29453761, key),
		s.Config.SetCookiePolicy(CookieAlways),
		s.Config.SetUnixBase(1767225600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Config.SetMAC1Keys(key, key, key); err == nil {
		t.Error("three mac1 keys were taken")
	}
	got = s.Config.Read()
	if got.ServerID != 0x1234 || got.MAC1Keys != 1 || !slices.Equal(got.CookieEpochs, []uint32{29453760, 29453761}) ||
		got.CookiePolicy != CookieAlways || got.UnixBase != 1767225600 {
		t.Errorf("after the setters: %+v", got)
	}
	// SipHash keys lie in memory as little-endian words.
	raw, err := s.raw[mapConfig].LookupBytes(uint32(0))
	if err != nil || !bytes.Contains(raw, key[:]) {
		t.Errorf("the mac1 key's bytes are not in the entry: %x, %v", raw, err)
	}
}

// Goal: a slot write is at least twelve times cheaper than Map.Update.
func BenchmarkSlotWrite(b *testing.B) {
	privateNamespaces(b)
	s := createSet(b, 1<<20)
	ids := make([]ID, 1<<16)
	for i := range ids {
		ids[i], _ = allocate(b, s.Sessions)
	}
	b.Run("Commit", func(b *testing.B) {
		i := 0
		for b.Loop() {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i)|1)
			if err := s.Sessions.Commit(ids[i*7919&0xffff], addr); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("MapUpdate", func(b *testing.B) {
		value := make([]byte, 64)
		i := 0
		for b.Loop() {
			key := binary.LittleEndian.Uint32(ids[i*7919&0xffff][:]) & (1<<20 - 1)
			if err := s.raw[mapSlots].Update(unsafe.Pointer(&key), unsafe.Pointer(&value[0]), 0); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

// Goal: eight million ids in less than two seconds.
func BenchmarkLoad(b *testing.B) {
	const ids = 8 << 20
	privateNamespaces(b)
	for b.Loop() {
		b.StopTimer()
		s := createSet(b, 2*ids)
		b.StartTimer()
		for range ids {
			if _, _, err := s.Sessions.Allocate(KindROAM, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*ids), "ns/id")
}

// A scan of a million slots, half of them live and none of them.
func BenchmarkScan(b *testing.B) {
	privateNamespaces(b)
	s := createSet(b, 1<<20)
	scan := func(b *testing.B) {
		n := 0
		for b.Loop() {
			s.Sessions.Scan(func(live []SlotInfo) bool { n += len(live); return true })
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Sessions.Capacity()), "ns/slot")
	}
	b.Run("empty", scan)
	for range s.Sessions.Capacity() / 2 {
		allocate(b, s.Sessions)
	}
	b.Run("half", scan)
}
