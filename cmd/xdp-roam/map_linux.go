// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
)

func newMapCommand(e *env) *cobra.Command {
	return group("map", "Inspect the pinned BPF maps of an instance",
		`The maps hold the session table, the sockets, the counters and the limits. These
commands only read them.`,
		newMapListCommand(e), newMapDumpCommand(e))
}

// openMaps opens the instance's pinned maps to look at them.
func (e *env) openMaps() (*maps.Set, error) {
	directory, err := e.loaderOptions().MapsDir()
	var unmounted *loader.Error
	switch {
	case errors.As(err, &unmounted) && !errors.Is(err, loader.ErrPermission):
		return nil, &fault{code: exitNotLoaded, err: err, fix: unmounted.Fix() + "; then `xdp-roam run` or `xdp-roam load` loads it"}
	case err != nil:
		return nil, err
	}
	set, err := maps.OpenReadOnly(directory)
	var schema *maps.SchemaError
	switch {
	case errors.As(err, &schema):
		return nil, &fault{code: exitConflict, err: err, fix: "use the version that loaded them, or `xdp-roam unload` and load again"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fault{
			code: exitNotLoaded, what: fmt.Sprintf("instance %q is not loaded: no maps in %s", e.instance, directory), err: err,
			fix: "`xdp-roam run` or `xdp-roam load` loads it; use --instance and --bpffs to look elsewhere",
		}
	case err != nil:
		return nil, fmt.Errorf("cannot open the maps of instance %q: %w", e.instance, err)
	}
	return set, nil
}

// mapItem is one line of `map list`.
type mapItem struct {
	Name       string `json:"name"`
	ID         uint32 `json:"id"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_bytes"`
	ValueSize  uint32 `json:"value_bytes"`
	MaxEntries uint32 `json:"max_entries"`
	Memory     uint64 `json:"memory_bytes"`
}

func newMapListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the maps with their sizes and kernel ids",
		Long: `list shows the pinned maps of the instance, for use with bpftool for example. It needs
no daemon.`,
		Example: `  xdp-roam map list`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			set, err := e.openMaps()
			if err != nil {
				return err
			}
			defer set.Close()
			list, err := set.List()
			if err != nil {
				return err
			}
			var items []mapItem
			for _, m := range list {
				items = append(items, mapItem(m))
			}
			return show(e, "Map", items, []column[mapItem]{
				{name: "name", value: func(m mapItem) string { return m.Name }},
				{name: "id", value: func(m mapItem) string { return fmt.Sprint(m.ID) }},
				{name: "type", value: func(m mapItem) string { return m.Type }},
				{name: "key", value: func(m mapItem) string { return size(uint64(m.KeySize)) }},
				{name: "value", value: func(m mapItem) string { return size(uint64(m.ValueSize)) }},
				{name: "entries", value: func(m mapItem) string { return fmt.Sprint(m.MaxEntries) }},
				{name: "memory", value: func(m mapItem) string { return size(m.Memory) }},
			})
		},
	}
}

func newMapDumpCommand(e *env) *cobra.Command {
	names := make([]string, 0, len(dumps))
	for _, d := range dumps {
		names = append(names, d.name)
	}
	return &cobra.Command{
		Use:       "dump NAME",
		Short:     "Print the decoded contents of a map: " + strings.Join(names, ", "),
		ValidArgs: names,
		Long: `dump reads a pinned map and prints its contents, with names and addresses instead of
numbers. It needs no daemon and changes nothing.`,
		Example: `  xdp-roam map dump slots
  xdp-roam map dump config -o json`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, d := range dumps {
				if d.name == args[0] {
					set, err := e.openMaps()
					if err != nil {
						return err
					}
					defer set.Close()
					return d.dump(e, set)
				}
			}
			for _, name := range maps.Names() {
				if name == args[0] {
					return usage("map %s has nothing to decode: it is a ring or holds AF_XDP sockets; the others are %s", name, strings.Join(names, ", "))
				}
			}
			return usage("there is no map %q; the maps are %s", args[0], strings.Join(names, ", "))
		},
	}
}

// size writes bytes for people.
func size(n uint64) string {
	switch {
	case n >= 10<<20:
		return strconv.FormatUint(n>>20, 10) + " MiB"
	case n >= 10<<10:
		return strconv.FormatUint(n>>10, 10) + " KiB"
	}
	return strconv.FormatUint(n, 10) + " B"
}
