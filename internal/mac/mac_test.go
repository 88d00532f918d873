// SPDX-License-Identifier: Apache-2.0

package mac

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The standard library says what is right, for every length.
func TestAgainstLibrary(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	var key [32]byte
	for n := range MaxMessage + 1 {
		message := make([]byte, n)
		rng.Read(key[:])
		rng.Read(message)
		h := hmac.New(sha256.New, key[:])
		h.Write(message)
		if got := Sum(&key, message); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Fatalf("the HMAC of %d bytes differs", n)
		}
	}
	for n := range MaxInfo + 1 {
		info := make([]byte, n)
		rng.Read(key[:])
		rng.Read(info)
		for _, length := range []int{0, 1, 16, 31, 32, 33, 44, 64, 65, 255, 255 * 32} {
			want, err := hkdf.Expand(sha256.New, key[:], string(info), length)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, length)
			if Expand(&key, info, got); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d bytes of info differ", length, n)
			}
		}
	}
}

// RFC 4231, test case 1, with the key that it has: HMAC fills a shorter one with zeros.
func TestVector(t *testing.T) {
	var key [32]byte
	copy(key[:], bytes.Repeat([]byte{0x0b}, 20))
	const want = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
	if got := Sum(&key, []byte("Hi There")); hex.EncodeToString(got[:]) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

func TestTooLong(t *testing.T) {
	var key [32]byte
	for name, f := range map[string]func(){
		"message": func() { Sum(&key, make([]byte, MaxMessage+1)) },
		"info":    func() { Expand(&key, make([]byte, MaxInfo+1), make([]byte, 1)) },
		"key":     func() { Expand(&key, nil, make([]byte, 255*32+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for a long %s", name)
				}
			}()
			f()
		}()
	}
}

func TestAllocs(t *testing.T) {
	var key [32]byte
	info, okm := make([]byte, 28), make([]byte, 44)
	if n := testing.AllocsPerRun(100, func() { Expand(&key, info, okm) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkExpand(b *testing.B) {
	var key [32]byte
	info, okm := make([]byte, 28), make([]byte, 44)
	for b.Loop() {
		Expand(&key, info, okm)
	}
}
