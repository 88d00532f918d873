// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Over virtio NICs an edge that may demand cookies has its sockets copy, since RETRY
// would be lost, and one that never does has zero-copy, on all queues. The second takes
// the queues over from the first, which was killed, and drains.
func TestZeroCopyOrRetry(t *testing.T) {
	if !lab.Devices() {
		t.Skip("a veth has no zero-copy: make test-zerocopy runs this over virtio NICs")
	}
	b := newLabBench(t)
	const queues = 2
	if err := b.edge.SetQueues("edge0", queues); err != nil {
		t.Fatal(err)
	}
	for _, cookie := range []string{"always", "never"} {
		edge := b.startEdge("--mode", "auto", "--cookie", cookie, "--interface", "edge0")
		edge.waitFor("driver virtio_net has native XDP and the kernel AF_XDP")
		said, zeroCopy := "2 of 2 queues, copy mode (with zero-copy driver virtio_net loses RETRY", 0
		if cookie == "never" {
			said, zeroCopy = "2 of 2 queues, zero-copy", queues
		}
		b.afxdpStatus("all queues have sockets", func(i control.Interface) bool {
			return i.State == "attached" && i.AFXDP.Queues == queues && i.AFXDP.Bound == queues && i.AFXDP.ZeroCopy == zeroCopy
		})
		if _, stdout, _ := b.run("status"); !strings.Contains(stdout, said) {
			t.Errorf("status does not say %q:\n%s", said, stdout)
		}
		client := b.startClient("-L", "5007:7")
		echo := b.program(5007)
		for range 50 {
			ask(t, echo, "by all queues")
		}
		b.checkStats("xdp", "redirect", "main_xsk")
		b.checkStats("server", "event", "packets_sent_by_queue")
		if err := b.edge.SetQueues("edge0", 1); err == nil {
			t.Error("a queue was taken from under its socket")
		}
		if cookie == "always" {
			b.checkStats("xdp", "tx", "retry")
			b.accounted() // not later: the data plane's counters outlive the process
			if code := edge.stop(syscall.SIGKILL); code != -1 {
				t.Errorf("killed: %d", code)
			}
			client.stop(syscall.SIGTERM)
			continue
		}
		client.stop(syscall.SIGTERM)
		if code, _, stderr := b.run("drain", "--timeout", "30s"); code != exitOK {
			t.Errorf("drain: exit code %d\n%s", code, stderr)
		}
		if code := edge.exit(); code != exitOK {
			t.Errorf("run ended with %d", code)
		}
	}
	b.nothingLeft()
}
