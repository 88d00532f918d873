// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	r := Results{Machine: Machine{CPU: "a CPU", CPUs: 2, MemoryMB: 7900, Kernel: "6.18-builder", Go: "go1.26"}}
	r.Add(AtMost(1, "fast", "ns", []float64{39}, 40).Against("nothing", "ns", []float64{12.34}, nil),
		AtLeast(4, "lookup", "x", []float64{4}, 4.5).Against("hash", "ns", []float64{400}, []float64{100}))
	r.AddAside(Beside(4, "no lookup", "ns", []float64{0.5}), Beside(7, "elsewhere", "ns", []float64{1}))
	document := `prose
<!-- generated: machine -->
old
<!-- end of generated -->
more
<!-- generated: rows 1 2 4 -->
<!-- end of generated -->
<!-- generated: beside 4 -->
<!-- end of generated -->
<!-- generated: met -->
<!-- end of generated -->
`
	got, err := r.Fill([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	want := `prose
<!-- generated: machine -->
2 CPUs (a CPU), 8 GB of memory, Linux 6.18, go1.26
<!-- end of generated -->
more
<!-- generated: rows 1 2 4 -->
| row | what | goal | this run | met | against |
|---|---|---|---|---|---|
| 1 | fast | <= 40 ns | 39.0 | yes | nothing: 12.3 ns |
| 2 | not measured in this run | | | | |
| 4 | lookup | >= 4.5 x | 4.00 | **no** | hash: 400 ns, ours 100 |
<!-- end of generated -->
<!-- generated: beside 4 -->
| row | also measured | this run | against |
|---|---|---|---|
| 4 | no lookup | 0.500 ns |  |
<!-- end of generated -->
<!-- generated: met -->
1 of 2 goals are reached in this run.
<!-- end of generated -->
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if again, err := r.Fill(got); err != nil || string(again) != want {
		t.Errorf("filled again: %v\n%s", err, again)
	}
	for broken, why := range map[string]string{
		"<!-- generated: rows 1 -->\n":                               "no <!-- end",
		"<!-- end of generated -->\n":                                "without a beginning",
		"<!-- generated: rows one -->\n<!-- end of generated -->\n":  "invalid syntax",
		"<!-- generated: nothing -->\n<!-- end of generated -->\n":   "neither machine",
		"<!-- generated: rows 1 -->\n<!-- generated: machine -->\nx": "before the one before",
	} {
		if _, err := r.Fill([]byte(broken)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", broken, err, why)
		}
	}
}
