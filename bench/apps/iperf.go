// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// interval is that of iperf3's reports, and so the finest pause that it can tell.
const interval = 100 * time.Millisecond

// startIperf starts iperf3 at the edge for one measurement. A server that goes on
// hears of the end of one later than its client does, and refuses the next until then.
func (s *stage) startIperf(ctx context.Context) (*process, error) {
	p, err := s.start(s.net.Edge, nil, "iperf3", "-s", "-1", "-p", fmt.Sprint(portIperf), "-i", fmt.Sprint(interval.Seconds()), "-J")
	if err != nil {
		return nil, err
	}
	return p, s.listening(ctx, p, portIperf)
}

// iperfReport is what iperf3 -J says, as far as it is of use here.
type iperfReport struct {
	Intervals []struct {
		Sum struct {
			Start   float64
			Seconds float64
			Bytes   float64
			Omitted bool
		}
	}
	End struct {
		SumReceived struct {
			Bytes         float64
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sum struct { // of UDP
			BitsPerSecond float64 `json:"bits_per_second"`
			Packets       int
			LostPackets   int `json:"lost_packets"`
		}
	}
	Server *iperfReport `json:"server_output_json"`
	Error  string
}

// iperf runs iperf3's client over a route. It may end late: with its data behind it, and
// where TCP on its own has a pause to make up for.
func (s *stage) iperf(ctx context.Context, over route, seconds int, args ...string) (*iperfReport, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(seconds)*time.Second+3*patience, errors.New("iperf3 does not end"))
	defer cancel()
	server, err := s.startIperf(ctx)
	if err != nil {
		return nil, err
	}
	out, err := s.run(ctx, s.net.Client, "iperf3", append([]string{
		"-c", over.addr.String(), "-p", fmt.Sprint(over.port(portIperf)), "-t", fmt.Sprint(seconds), "-i", fmt.Sprint(interval.Seconds()), "-J", "--get-server-output",
	}, args...)...)
	if err != nil {
		server.kill()
	}
	err = errors.Join(err, server.wait(ctx))
	r := &iperfReport{}
	if jsonErr := json.Unmarshal([]byte(out), r); jsonErr != nil {
		return nil, errors.Join(err, jsonErr)
	}
	if r.Error != "" {
		err = errors.Join(err, errors.New("iperf3: "+r.Error))
	}
	return r, err
}

// received is the report of the end that receives.
func (r *iperfReport) received(reverse bool) *iperfReport {
	if !reverse && r.Server != nil {
		return r.Server
	}
	return r
}

// result is the report's line about TCP.
func (r *iperfReport) result(program string, over route, reverse bool, w walk) result {
	return result{
		Program: program, By: over.by, Walk: w,
		Pause: r.received(reverse).pause(), Rate: r.End.SumReceived.BitsPerSecond / 8, Outcome: "ended in order",
	}
}

// pause is the longest time in which nothing came, as far as the intervals tell.
func (r *iperfReport) pause() (longest time.Duration) {
	var current float64
	for _, i := range r.Intervals {
		if i.Sum.Bytes > 0 {
			current = 0
			continue
		}
		current += i.Sum.Seconds
		longest = max(longest, time.Duration(current*float64(time.Second)))
	}
	return longest.Round(interval)
}

// seconds is a round's time and some more.
func seconds(round []step) int {
	return int((time.Duration(len(round)+1)*stay + cut + 2*overlap + gap).Seconds()) + 1
}

// tryIperf measures while the client goes everywhere.
func tryIperf(ctx context.Context, s *stage) error {
	if err := s.measure(ctx, overRoam, everywhere); err != nil {
		return err
	}
	return s.connectAlive()
}

// measure measures each protocol and direction for the time of a round.
func (s *stage) measure(ctx context.Context, over route, round []step) error {
	for _, c := range []struct {
		program string
		udp     bool
		reverse bool
	}{
		{"iperf3: TCP to the edge", false, false},
		{"iperf3: TCP from the edge", false, true},
		{"iperf3: UDP, 20 Mbit/s to the edge", true, false},
		{"iperf3: UDP, 20 Mbit/s from the edge", true, true},
	} {
		args := direction(c.reverse)
		if c.udp {
			args = append(args, "-u", "-b", "20M", "-l", "1200")
		}
		var r *iperfReport
		w, err := s.walk(ctx, round, func(ctx context.Context, _ <-chan struct{}) (err error) {
			r, err = s.iperf(ctx, over, seconds(round), args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.program, err)
		}
		row := r.result(c.program, over, c.reverse, w)
		if c.udp {
			row.Rate = r.End.Sum.BitsPerSecond / 8
			row.Outcome = fmt.Sprintf("%d of %d datagrams lost", r.End.Sum.LostPackets, r.End.Sum.Packets)
		}
		s.add(row)
	}
	return nil
}

func direction(reverse bool) []string {
	if reverse {
		return []string{"-R"}
	}
	return nil
}
