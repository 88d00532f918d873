// SPDX-License-Identifier: Apache-2.0

package server

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/hugepages"
)

var idleSessions = flag.Int("idle.sessions", 1<<14, "how many idle sessions BenchmarkIdle keeps")

// BenchmarkIdle is row 18 of docs/BENCHMARKS.md: what a server spends on sessions that
// nothing happens to. It measures once, whatever b.N.
//
// The heap of a session is that of TestIdleMemory. Resident is the process, without
// the table, which is the data plane's elsewhere. CPU is that of the timers and of
// the janitor, over so long that each of its tasks comes at least as often as it
// should, with the share of a collection every two minutes: that is when the runtime
// collects the garbage of a process that makes none.
func BenchmarkIdle(b *testing.B) {
	for _, made := range []string{"derived", "shaken"} {
		n, few, begin := *idleSessions, 1<<14, (*puppets).derive
		if made == "shaken" { // a handshake is an order of magnitude more work
			n, few, begin = max(n>>7, 1<<12), 1<<10, (*puppets).shake
		}
		b.Run(fmt.Sprintf("made=%s/sessions=%d", made, n), func(b *testing.B) {
			h := openIdle(b, n, few, begin)
			b.ReportMetric(float64(h.heapOf(n)), "B/session")
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n), "us/open")
			b.ReportMetric(0, "ns/op")
			if made == "derived" {
				h.idle(b, n)
			}
			runtime.KeepAlive(h)
		})
	}
}

// idleFor is how long an idle server is watched: the janitor's sweep of the table, due
// once a minute, falls into it.
const idleFor = 8 * time.Second

func (h *herd) idle(b *testing.B, n int) {
	debug.FreeOSMemory()
	new(hugepages.Collapser).Finish() // the janitor's, in the first minute
	b.ReportMetric((float64(resident(b))-64*float64(h.table.Capacity()))/float64(n+h.few), "B-resident/session")

	h.lost = lostAddresses{} // benchLocal is no address of this machine: the janitor would tell all sessions
	h.keepersWG.Go(h.workers[0].keepTime)
	h.openersWG.Go(h.tidy)
	start, used := time.Now(), processTime(b)
	time.Sleep(idleFor) // it is the time in which nothing happens that is measured
	spent := (processTime(b) - used).Seconds() / time.Since(start).Seconds()
	h.cancel()
	h.end()
	h.openersWG.Wait()
	h.keepersWG.Wait()

	before := collectorTime()
	runtime.GC()
	collected := collectorTime() - before
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	b.ReportMetric(collected*1e3, "ms/collection")
	b.ReportMetric(float64(gc.Pause[0].Microseconds()), "us/pause")
	const collectEvery = 120
	b.ReportMetric(100*(spent+collected/collectEvery), "%core")

	start = time.Now()
	listed := 0
	h.Sessions(func(SessionInfo) bool { listed++; return true })
	b.ReportMetric(time.Since(start).Seconds()*1e3, "ms/list")
	if listed != n+h.few {
		b.Errorf("%d of %d sessions are listed", listed, n+h.few)
	}
	start = time.Now()
	h.Stats()
	b.ReportMetric(float64(time.Since(start).Microseconds()), "us/stats")
}

// processTime is the CPU time of the process, all threads.
func processTime(b testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// collectorTime is the CPU time, in seconds, that the garbage collector has used, as
// of the end of the last collection.
func collectorTime() float64 {
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64()
}

// resident is the memory that the process holds, in bytes.
func resident(b *testing.B) int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
