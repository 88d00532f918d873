// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inside

import (
	"slices"
	"testing"
)

func TestMetric(t *testing.T) {
	out := []byte(`goos: linux
BenchmarkMoves/rebind=true/sessions=32768-2         	  262144	       1000 ns/move	       312.5 kmoves/s
BenchmarkMoves/rebind=false/sessions=32768-2        	  262144	       8000 ns/move	       125.5 kmoves/s
BenchmarkMoves/rebind=true/sessions=32768-2         	  262144	       1000 ns/move	       310 kmoves/s
PASS
`)
	if got := metric(out, "rebind=true", "kmoves/s"); !slices.Equal(got, []float64{312.5, 310}) {
		t.Errorf("%v", got)
	}
	if got := metric(out, "rebind=true", "B/op"); got != nil {
		t.Errorf("%v", got)
	}
}

// The server's benchmarks are there and print what is read from them.
func TestMeasure(t *testing.T) {
	r, err := Measure(t.Context(), Options{Pairs: 1, Sessions: 1 << 11, Few: 1 << 10, Idle: 1 << 14, Moves: 1 << 11, Source: "../.."})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 4 || len(r.Asides) != 2+3+6 {
		t.Errorf("%+v, beside: %+v", r.Rows, r.Asides)
	}
	for _, row := range r.Rows {
		if row.Value <= 0 {
			t.Errorf("%+v", row)
		}
	}
}
