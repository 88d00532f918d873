// SPDX-License-Identifier: Apache-2.0

package handshakes

import "testing"

func TestMeasure(t *testing.T) {
	r, err := Measure(t.Context(), Options{Pairs: 1, Handshakes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 1 || r.Rows[0].Row != 16 || r.Rows[0].Value <= 0 || len(r.Asides) != 1 || r.Asides[0].Value <= 0 {
		t.Errorf("rows: %+v, beside: %+v", r.Rows, r.Asides)
	}
}
