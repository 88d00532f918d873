// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// The maps by their names in bpf/maps.h, which are the names of their pins.
const (
	mapSlots     = "slots"
	mapConfig    = "config"
	mapListeners = "listeners"
	mapCPUs      = "cpus"
	mapEvents    = "events"
	mapTrace     = "trace"
	mapXSKs      = "xsks"
	mapSockets   = "sockets"
)

var mapNames = []string{mapSlots, mapConfig, mapListeners, mapCPUs, mapEvents, mapTrace, mapXSKs, mapSockets}

// Names returns the names of an instance's maps.
func Names() []string { return slices.Clone(mapNames) }

// Set is the maps of one instance.
type Set struct {
	Sessions  *Sessions
	Config    *Config
	Listeners *Listeners
	Sockets   *Sockets
	XSKs      *XSKs
	Counters  *Counters

	raw      map[string]*ebpf.Map
	readOnly bool
}

// SchemaError says that pinned maps were laid out by another version.
type SchemaError struct {
	Pinned, Own uint32
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the pinned maps have schema %d, this version has schema %d", e.Pinned, e.Own)
}

// Create makes an instance's maps, with slots places for sessions (CheckSlots).
// They live as long as the set is open, or pinned, or a program uses them.
func Create(slots uint32) (*Set, error) {
	if err := CheckSlots(slots); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	raw := make(map[string]*ebpf.Map)
	for _, name := range mapNames {
		m, err := createMap(spec.Maps[name], name, slots)
		if err != nil {
			closeMaps(raw)
			return nil, fmt.Errorf("creating map %s: %w", name, err)
		}
		raw[name] = m
	}
	s, err := newSet(raw, false)
	if err != nil {
		closeMaps(raw)
		return nil, err
	}
	if err := s.Config.initialize(slots); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func createMap(spec *ebpf.MapSpec, name string, slots uint32) (*ebpf.Map, error) {
	if spec == nil {
		return nil, errors.New("the BPF object has no such map")
	}
	spec = spec.Copy()
	spec.Name = "roam_" + name // what bpftool shows
	if name == mapSlots {
		spec.MaxEntries = slots
	}
	return ebpf.NewMap(spec)
}

// Open opens the maps that Pin has left in dir, to be their one writer. It
// returns a *SchemaError where another version pinned them.
func Open(dir string) (*Set, error) { return open(dir, false) }

// OpenReadOnly opens the maps pinned in dir to look at them. Every method that
// would change something returns ErrReadOnly.
func OpenReadOnly(dir string) (*Set, error) { return open(dir, true) }

func open(dir string, readOnly bool) (*Set, error) {
	// The schema first: under another one the rest may lack a map.
	schema, err := PinnedSchema(dir)
	if err != nil {
		return nil, err
	}
	if schema != Schema {
		return nil, &SchemaError{Pinned: schema, Own: Schema}
	}
	raw := make(map[string]*ebpf.Map)
	for _, name := range mapNames {
		m, err := openMap(dir, name)
		if err != nil {
			closeMaps(raw)
			return nil, err
		}
		raw[name] = m
	}
	s, err := newSet(raw, readOnly)
	if err != nil {
		closeMaps(raw)
		return nil, err
	}
	return s, nil
}

// openMap opens for reading and writing in any case, as the kernel maps no BPF
// map into memory through a read-only descriptor. What a read-only set maps it
// maps without write access, and its methods refuse the rest.
func openMap(dir, name string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
	if err != nil {
		return nil, fmt.Errorf("opening pinned map %s: %w", name, err)
	}
	return m, nil
}

// PinnedSchema returns the schema of the maps pinned in dir: the first word of
// the config map in every version.
func PinnedSchema(dir string) (uint32, error) {
	m, err := openMap(dir, mapConfig)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	value, err := m.LookupBytes(uint32(0))
	if err != nil {
		return 0, fmt.Errorf("reading the schema of the pinned maps: %w", err)
	}
	if len(value) < 4 {
		return 0, fmt.Errorf("reading the schema of the pinned maps: the config map has %d bytes", len(value))
	}
	return binary.NativeEndian.Uint32(value), nil
}

func newSet(raw map[string]*ebpf.Map, readOnly bool) (*Set, error) {
	s := &Set{
		Config:    &Config{readOnly: readOnly},
		Listeners: &Listeners{readOnly: readOnly},
		Sockets:   &Sockets{array: raw[mapSockets], readOnly: readOnly},
		XSKs:      &XSKs{m: raw[mapXSKs], readOnly: readOnly},
		Counters:  &Counters{},
		Sessions:  &Sessions{readOnly: readOnly},
		raw:       raw,
		readOnly:  readOnly,
	}
	slots, err := mapping[slot](raw[mapSlots], readOnly, s.Sessions)
	if err != nil {
		return nil, err
	}
	s.Sessions.adopt(slots)
	entries, err := mapping[config](raw[mapConfig], readOnly, s.Config)
	if err != nil {
		return nil, err
	}
	s.Config.entry = &entries[0]
	if s.Listeners.entries, err = mapping[listener](raw[mapListeners], readOnly, s.Listeners); err != nil {
		return nil, err
	}
	if s.Counters.cpus, err = mapping[cpuBlock](raw[mapCPUs], true, s.Counters); err != nil {
		return nil, err
	}
	return s, s.Counters.limit()
}

// Identify gives the table and the data plane the server's number and id keys,
// so that both know the same ids; key returns all zero for a generation that is
// not in use. It comes before the first session and the first listener, and again
// when a generation comes or goes: before Sessions.SetGeneration, so that the
// data plane knows an id before a client does.
func (s *Set) Identify(serverID uint16, key func(generation uint8) [16]byte) error {
	if s.readOnly {
		return ErrReadOnly
	}
	keys, err := newIDKeys(serverID, key)
	if err != nil {
		return err
	}
	if err := s.Config.setIDKeys(keys); err != nil {
		return err
	}
	s.Sessions.keys.Store(keys)
	return nil
}

// xdpName is what the kernel shows of roam_xdp; with AF_XDP sockets behind it,
// the interface slot follows.
const xdpName = "roam_xdp"

// XDPSlot reads the name of an attached program: whether it is a roam_xdp, and
// the interface slot of one that LoadXDP has loaded, else -1. Who exchanges the
// programs of a daemon that runs learns the slots so.
func XDPSlot(name string) (slot int, ours bool) {
	rest, ours := strings.CutPrefix(name, xdpName)
	if !ours || rest == "" {
		return -1, ours
	}
	number, found := strings.CutPrefix(rest, "_")
	slot, err := strconv.Atoi(number)
	if !found || err != nil || slot < 0 || slot >= XSKInterfaces {
		return -1, false
	}
	return slot, true
}

// LoadXDP loads a roam_xdp of its own for an interface slot of XSKs: it redirects the
// main lane to the AF_XDP sockets there. The caller closes it.
func (s *Set) LoadXDP(slot int) (*ebpf.Program, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	if _, err := xskIndex(slot, 0); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	spec.Maps[mapSlots].MaxEntries = s.Sessions.Capacity()
	spec.Programs[xdpName].Name = fmt.Sprintf("%s_%d", xdpName, slot)
	if err := errors.Join(spec.Variables["xsk_enabled"].Set(true), spec.Variables["xsk_interface"].Set(uint32(slot))); err != nil {
		return nil, err
	}
	var loaded struct {
		XDP *ebpf.Program `ebpf:"roam_xdp"`
	}
	if err := spec.LoadAndAssign(&loaded, &ebpf.CollectionOptions{MapReplacements: s.raw}); err != nil {
		return nil, err
	}
	return loaded.XDP, nil
}

// Programs is what LoadPrograms has loaded. roam_socket is reached through
// Set.Sockets.
type Programs struct {
	XDP *ebpf.Program
}

// LoadPrograms loads the data plane's programs over these maps. The caller
// closes the XDP program; Close closes the other. A refusal by the verifier is
// an *ebpf.VerifierError.
func (s *Set) LoadPrograms(opts ebpf.ProgramOptions) (*Programs, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	spec.Maps[mapSlots].MaxEntries = s.Sessions.Capacity()
	var programs bpf.RoamPrograms
	if err := spec.LoadAndAssign(&programs, &ebpf.CollectionOptions{MapReplacements: s.raw, Programs: opts}); err != nil {
		return nil, err
	}
	s.Sockets.setProgram(programs.RoamSocket)
	return &Programs{XDP: programs.RoamXdp}, nil
}

// Pin pins every map in dir, which exists. On an error it takes back what it
// has pinned.
func (s *Set) Pin(dir string) error {
	for i, name := range mapNames {
		if err := s.raw[name].Pin(filepath.Join(dir, name)); err != nil {
			for _, done := range mapNames[:i] {
				_ = os.Remove(filepath.Join(dir, done))
			}
			return fmt.Errorf("pinning map %s: %w", name, err)
		}
	}
	return nil
}

// MapInfo is what `map list` shows of a map.
type MapInfo struct {
	Name       string
	ID         uint32 // the kernel's
	Type       string
	KeySize    uint32
	ValueSize  uint32
	MaxEntries uint32
	Memory     uint64 // bytes that the kernel charges for it
}

// List describes the maps in the order of Names.
func (s *Set) List() ([]MapInfo, error) {
	var list []MapInfo
	for _, name := range mapNames {
		m := s.raw[name]
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("reading about map %s: %w", name, err)
		}
		id, _ := info.ID()
		memory, _ := info.Memlock()
		list = append(list, MapInfo{
			Name: name, ID: uint32(id), Type: m.Type().String(), KeySize: m.KeySize(), ValueSize: m.ValueSize(),
			MaxEntries: m.MaxEntries(), Memory: memory,
		})
	}
	return list, nil
}

// Close closes the maps' descriptors. Pinned maps and those of attached
// programs live on. The wrappers stay readable, of what was last in them.
func (s *Set) Close() error {
	s.Sockets.setProgram(nil)
	return closeMaps(s.raw)
}

func closeMaps(raw map[string]*ebpf.Map) error {
	var errs []error
	for _, m := range raw {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
