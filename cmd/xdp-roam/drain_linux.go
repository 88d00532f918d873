// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// drain is the orderly end of an edge: it goes on until the last session is gone
// or the deadline comes.
type drain struct {
	sync.Mutex             // guards the next three
	timer      *time.Timer // nil: no deadline
	deadline   time.Time
	begun      bool
	// over is closed when the edge is to end; context ends the wait for that.
	over    chan struct{}
	context context.Context
	cancel  context.CancelFunc
}

func newDrain() *drain {
	d := &drain{over: make(chan struct{})}
	d.context, d.cancel = context.WithCancel(context.Background())
	return d
}

func (d *drain) stop() {
	d.Lock()
	defer d.Unlock()
	d.cancel()
	d.setDeadline(0, time.Time{})
}

func (d *drain) setDeadline(timeout time.Duration, now time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.deadline = nil, time.Time{}
	if timeout > 0 {
		d.timer, d.deadline = time.AfterFunc(timeout, d.cancel), now.Add(timeout)
	}
}

// Drain implements control.Source.
func (s *source) Drain(timeout time.Duration) {
	d := s.drain
	d.Lock()
	defer d.Unlock()
	if d.context.Err() != nil {
		return // the edge is at its end
	}
	d.setDeadline(timeout, s.env.now())
	if d.begun {
		return
	}
	d.begun = true
	s.background.Go(func() {
		if err := s.server.Drain(d.context); errors.Is(err, context.Canceled) {
			s.log.Warn("drained no further: the sessions that are left are closed", "sessions", s.server.Stats().Sessions)
		}
		close(d.over)
	})
}

func newDrainCommand(e *env) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "drain [--timeout D]",
		Short: "Shut a running edge down after its last session",
		Long: `drain makes the edge refuse new sessions ("busy") while existing ones continue. The
edge exits when the last session has ended; after --timeout the remaining ones are
closed and their clients told. drain waits for that. Interrupting it does not stop the
draining; running drain again with another --timeout changes the deadline.`,
		Example: `  xdp-roam drain --timeout 10m`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout < 0 {
				return usage("--timeout %v: write how long sessions may go on, such as 10m; 0 is for ever", timeout)
			}
			client := control.NewClient(e.controlPath())
			status, err := client.Drain(c.Context(), timeout)
			if err != nil {
				return err
			}
			if err := e.awaitDrained(c.Context(), client, status); err != nil {
				return err
			}
			return show(e, control.KindStatus, []control.Status{status}, []column[control.Status]{
				{name: "instance", value: func(s control.Status) string { return s.Instance }},
				{name: "result", value: func(control.Status) string { return "drained" }},
			})
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "close the remaining sessions after `D`, such as 10m; 0 waits for the last one")
	return c
}

// awaitDrained says how many sessions are left until the daemon is gone.
func (e *env) awaitDrained(ctx context.Context, client *control.Client, status control.Status) error {
	const look = 200 * time.Millisecond
	pid, said := status.PID, uint64(1<<63)
	for {
		if status.Sessions != said {
			said = status.Sessions
			fmt.Fprintf(e.stderr, "draining: %d sessions are left\n", said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		next, err := client.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, control.ErrNotRunning), err == nil && next.PID != pid:
			return nil
		case err == nil: // else it is about to end, and does not answer any more
			status = next
		}
	}
}
