// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
	"unsafe"
)

func TestDecodeTrace(t *testing.T) {
	raw := trace{Event: event{Ktime: 5, Reason: uint8(ReasonMain), Stage: uint8(StageSocket), Length: 41}, Length: 3000, Captured: 7, Queue: 3}
	copy(raw.Data[:], "payload and old bytes of the ring")
	var sample bytes.Buffer
	if err := binary.Write(&sample, binary.NativeEndian, &raw); err != nil {
		t.Fatal(err)
	}
	got, err := decodeTrace(sample.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got.Since != 5*time.Nanosecond || got.Reason != ReasonMain || got.Stage != StageSocket || got.Length != 41 ||
		got.Total != 3000 || got.Queue != 3 || string(got.Data) != "payload" {
		t.Errorf("%+v", got)
	}
	if _, err := decodeTrace(sample.Bytes()[:unsafe.Sizeof(trace{})-1]); err == nil {
		t.Error("a short sample was decoded")
	}
}
