// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// topSample is one look at the daemon.
type topSample struct {
	at       time.Time // of the monotonic clock, too
	status   control.Status
	counters []control.Counter
	workers  []control.Worker
	sessions []control.Session
}

// topSampler looks at the daemon, and no more often at its sessions than takes a
// tenth of the time: a list of a million keeps a core busy for half a second.
type topSampler struct {
	client   *control.Client
	query    control.SessionQuery // of the sessions there are
	sessions []control.Session
	next     time.Time // not before it are they asked for again
}

func (s *topSampler) sample(ctx context.Context, q control.SessionQuery) (sample topSample, err error) {
	if sample.status, err = s.client.Status(ctx); err != nil {
		return sample, err
	}
	if sample.counters, err = s.client.Counters(ctx); err != nil {
		return sample, err
	}
	if sample.workers, err = s.client.Workers(ctx); err != nil {
		return sample, err
	}
	sample.at = time.Now()
	changed := q.Sort != s.query.Sort || q.Reverse != s.query.Reverse || q.Limit != s.query.Limit
	if q.Limit > 0 && (changed || !sample.at.Before(s.next)) {
		if s.sessions, err = s.client.Sessions(ctx, q); err != nil {
			return sample, err
		}
		s.query, s.next = q, sample.at.Add(10*time.Since(sample.at))
	}
	sample.sessions = s.sessions
	return sample, nil
}

// topRates is what two looks say about the time between them, each second.
type topRates struct {
	Time             time.Time          `json:"time"`
	Sessions         uint64             `json:"sessions"`
	HalfOpen         uint64             `json:"half_open"`
	TableUsed        uint64             `json:"table_used"`
	TableSlots       uint64             `json:"table_slots"`
	PacketsPerSecond map[string]float64 `json:"packets_per_second"` // by stage
	// EventsPerSecond are the server's, by reason: roams_committed, sessions_opened ...
	EventsPerSecond map[string]float64 `json:"events_per_second"`
	Answers         float64            `json:"answers_per_second"` // of handshakes: RESP and RETRY
	Drops           []rateItem         `json:"drops"`              // the fastest first
	Workers         []workerRate       `json:"workers"`
}

// workerRate is the load of one worker.
type workerRate struct {
	Worker    int     `json:"worker"`
	PerSecond float64 `json:"packets_per_second"`
	Dropped   float64 `json:"dropped_per_second"`
	// Share is its part of all workers' packets, 0 to 1.
	Share float64 `json:"share"`
}

// compare makes rates of two looks; of one alone they are all 0.
func compareSamples(before, now topSample) topRates {
	r := topRates{
		Sessions: now.status.Sessions, HalfOpen: now.status.HalfOpen, TableUsed: now.status.TableUsed, TableSlots: now.status.TableSlots,
		PacketsPerSecond: make(map[string]float64), EventsPerSecond: make(map[string]float64), Drops: []rateItem{}, Workers: []workerRate{},
	}
	elapsed := now.at.Sub(before.at)
	if before.at.IsZero() || elapsed <= 0 {
		before, elapsed = now, time.Second
	}
	for _, c := range rates(now.counters, before.counters, elapsed) {
		if c.Verdict == "event" {
			r.EventsPerSecond[c.Reason] += c.PerSecond
			continue
		}
		r.PacketsPerSecond[c.Stage] += c.PerSecond
		switch c.Verdict {
		case "drop":
			r.Drops = append(r.Drops, c)
		case "answer", "tx":
			r.Answers += c.PerSecond
		}
	}
	slices.SortStableFunc(r.Drops, func(a, b rateItem) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), cmp.Compare(b.Value, a.Value))
	})
	r.Workers = compareWorkers(before.workers, now.workers, elapsed)
	return r
}

func compareWorkers(before, now []control.Worker, elapsed time.Duration) []workerRate {
	was := make(map[int]control.Worker, len(before))
	for _, w := range before {
		was[w.Worker] = w
	}
	list, sum := make([]workerRate, len(now)), 0.0
	grown := func(now, before uint64) float64 { return float64(now-min(now, before)) / elapsed.Seconds() }
	for i, w := range now {
		list[i] = workerRate{Worker: w.Worker, PerSecond: grown(w.Packets, was[w.Worker].Packets), Dropped: grown(w.Dropped, was[w.Worker].Dropped)}
		sum += list[i].PerSecond
	}
	for i := range list {
		if sum > 0 {
			list[i].Share = list[i].PerSecond / sum
		}
	}
	return list
}
