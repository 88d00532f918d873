// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// sessionFilter are the flags that say which sessions a command means.
type sessionFilter struct {
	services, workers []int
	peers, states     []string
	movedSince        string
}

func (f *sessionFilter) add(c *cobra.Command) {
	flags := c.Flags()
	flags.IntSliceVar(&f.services, "service", nil, "only sessions of service `PORT` (repeat for more)")
	flags.StringSliceVar(&f.peers, "peer", nil, "only sessions of the client with this `NAME` or beginning of a public key (repeat for more)")
	flags.IntSliceVar(&f.workers, "worker", nil, "only sessions of worker `N` (repeat for more)")
	flags.StringVar(&f.movedSince, "moved-since", "", "only sessions that moved since `WHEN`: 10m (ago), or an RFC 3339 time")
}

// addState is apart: a command may mean open sessions alone.
func (f *sessionFilter) addState(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.states, "state", nil, "only sessions in `STATE`: "+strings.Join(control.SessionStates, ", ")+" or all (default open)")
}

// empty reports whether no flag was given.
func (f *sessionFilter) empty() bool {
	return len(f.services)+len(f.workers)+len(f.peers)+len(f.states) == 0 && f.movedSince == ""
}

// query is what the flags and ids say, checked.
func (f *sessionFilter) query(e *env, ids []string) (control.SessionQuery, error) {
	q := control.SessionQuery{Peers: f.peers, States: f.states}
	for _, id := range ids {
		q.IDs = append(q.IDs, strings.ToLower(id))
	}
	for _, service := range f.services {
		if service < 1 || service > 65535 {
			return q, usage("--service %d: a service is a number from 1 to 65535", service)
		}
		q.Services = append(q.Services, uint16(service))
	}
	for _, worker := range f.workers {
		if worker < 0 {
			return q, usage("--worker %d: workers count from 0", worker)
		}
		q.Workers = append(q.Workers, worker)
	}
	var err error
	if q.MovedSince, err = e.since("--moved-since", f.movedSince); err != nil {
		return q, err
	}
	return q, q.Check()
}

// since reads a time, or how long ago one was; none is the zero time.
func (e *env) since(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return e.now().Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, usage("%s %q: write how long ago, such as 10m, or a time such as %s", flag, text, e.now().Format(time.RFC3339))
}
