// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

func newStateCommand(e *env) *cobra.Command {
	return group("state", "Manage the secret behind ids, cookies and resets", `The state secret is stored in the state directory and survives restarts. "state rotate"
creates the next one.`, newStateRotateCommand(e))
}

func newStateRotateCommand(e *env) *cobra.Command {
	var directory string
	c := &cobra.Command{
		Use:     "rotate [--state-dir DIR]",
		Example: `  xdp-roam state rotate`,
		Short:   "Create the next generation of the state secret",
		Long: `rotate creates a new state secret, from which new session ids and cookies are derived.
Sessions continue: previous secrets stay until no live id uses them, at most four at a
time. A running edge rotates at once. If none is running, the state directory is
updated for the next start.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			generations, err := control.NewClient(e.controlPath()).RotateState(c.Context())
			if errors.Is(err, control.ErrNotRunning) {
				generations, err = rotateFile(directory)
			}
			if err != nil {
				return err
			}
			return show(e, control.KindGeneration, generations, []column[control.Generation]{
				{name: "generation", value: func(g control.Generation) string { return fmt.Sprint(g.Generation) }},
				{name: "use", value: func(g control.Generation) string {
					if g.Newest {
						return "new ids"
					}
					return "older ids"
				}},
				{name: "live ids", value: func(g control.Generation) string { return fmt.Sprint(g.LiveIDs) }},
			})
		},
	}
	c.Flags().StringVar(&directory, "state-dir", config.Default().StateDir, "`DIR` of the state secret if no edge is running")
	return c
}

// rotateFile rotates the state that no daemon uses: no id of it is live.
func rotateFile(directory string) ([]control.Generation, error) {
	path := filepath.Join(directory, handshake.StateSecretFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, &fault{
			code: exitNotLoaded, what: fmt.Sprintf("no daemon is running, and there is no %s", path),
			fix: "choose the daemon by --control or --instance, or the directory by --state-dir; `xdp-roam run` creates the first secret",
		}
	}
	was, err := handshake.LoadState(directory)
	if err != nil {
		return nil, err
	}
	oldest := (was.Newest() + 1) % handshake.Generations
	now, err := was.Without(oldest).Next()
	if err != nil {
		return nil, err
	}
	if err := handshake.SaveState(directory, was, now); err != nil {
		return nil, err
	}
	var generations []control.Generation
	for g := range uint8(handshake.Generations) {
		if now.Holds(g) {
			generations = append(generations, control.Generation{Generation: g, Newest: g == now.Newest()})
		}
	}
	return generations, nil
}

// TakeSocketProgram implements control.Source.
func (d *source) TakeSocketProgram() error {
	if d.instance == nil {
		return errors.New("it runs without a data plane (mode none)")
	}
	if err := d.instance.TakeSocketProgram(); err != nil {
		return err
	}
	d.log.Info("another roam_socket chooses among the sockets")
	d.events.Record(control.Event{Time: d.env.now().UTC(), Class: control.ClassEdge, Name: "socket_program_exchanged"})
	return nil
}

// RotateState implements control.Source.
func (d *source) RotateState() ([]control.Generation, error) {
	if _, err := d.server.RotateState(); err != nil {
		return nil, err
	}
	return generationItems(d.server.Generations()), nil
}

func generationItems(list []server.Generation) (items []control.Generation) {
	for _, g := range list {
		items = append(items, control.Generation{Generation: g.Number, Newest: g.Newest, LiveIDs: g.IDs})
	}
	return items
}
