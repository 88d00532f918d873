// SPDX-License-Identifier: Apache-2.0

//go:build linux

package path

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/xdp-roam/xdp-roam/bench/edge"
	"github.com/xdp-roam/xdp-roam/bench/peer"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// quicClient makes this test binary the client of the QUIC peer.
const quicClient = "XDP_ROAM_BENCH_QUIC"

func TestMain(m *testing.M) {
	if os.Getenv(quicClient) != "" {
		_ = peer.SendQUIC(context.Background(), large) // until it is killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Every packet that is played is worked off, by the product and by the peers, which
// the measurement insists on.
func TestMeasure(t *testing.T) {
	testutil.RequirePrivileged(t)
	o := Options{Pairs: 1, Datagrams: edge.Burst, QUIC: func(int) *exec.Cmd {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), quicClient+"=1")
		return c
	}}
	r, err := Measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, row := range r.Rows {
		got[row.Row]++
		if row.Value <= 0 {
			t.Errorf("%+v", row)
		}
	}
	if got[9] != 2 || got[11] != 1 || got[12] != 1 || len(r.Asides) != 1 {
		t.Errorf("rows: %v, asides: %d", got, len(r.Asides))
	}
}
