// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestAnswer(t *testing.T) {
	if err := readAnswer(bytes.NewReader(appendAnswer(nil, StatusConnected, ""))); err != nil {
		t.Errorf("connected: %v", err)
	}
	// The answer is not one byte longer than itself.
	r := bytes.NewReader(append(appendAnswer(nil, StatusConnected, ""), "data"...))
	if err := readAnswer(r); err != nil || r.Len() != 4 {
		t.Errorf("%v, %d bytes are left", err, r.Len())
	}
	var refused *RefusedError
	err := readAnswer(bytes.NewReader(appendAnswer(nil, StatusRefused, "nothing listens")))
	if !errors.As(err, &refused) || refused.Status != StatusRefused || refused.Reason != "nothing listens" {
		t.Errorf("refused: %v", err)
	}
	// What cannot be told whole is cut between characters; what is no text is made one.
	err = readAnswer(bytes.NewReader(appendAnswer(nil, StatusFailed, strings.Repeat("ä", 200))))
	if !errors.As(err, &refused) || refused.Reason != strings.Repeat("ä", 127) {
		t.Errorf("long: %v", err)
	}
	err = readAnswer(strings.NewReader("\x63\x04a\x1b[\xff"))
	if !errors.As(err, &refused) || refused.Status != 99 || refused.Reason != "a?[?" {
		t.Errorf("an escape sequence: %q", err)
	}
	for _, short := range []string{"", "\x00", "\x01\x05four"} {
		if err := readAnswer(strings.NewReader(short)); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: %v", short, err)
		}
	}
}

func TestOpening(t *testing.T) {
	for text, want := range map[string]error{"\x01rest": nil, "\x03": ErrPreamble, "GET /": ErrPreamble, "": io.ErrUnexpectedEOF, "\x02short": io.ErrUnexpectedEOF} {
		if _, question, err := readOpening(strings.NewReader(text)); !errors.Is(err, want) || question != strings.HasPrefix(text, "\x02") {
			t.Errorf("%q: %v, want %v; a question: %v", text, err, want, question)
		}
	}
	r := bytes.NewReader(append(appendQuestion(nil, 1<<40+4), "rest"...))
	if about, question, err := readOpening(r); about != 1<<40+4 || !question || err != nil || r.Len() != 4 {
		t.Errorf("about %d, a question: %v, %v, %d bytes are left", about, question, err, r.Len())
	}
}

// A question is answered when the stream is over, and at once where there is none.
func TestServed(t *testing.T) {
	var s Served
	<-s.over(0)
	end := s.Begin(4)
	over := s.over(4)
	select {
	case <-over:
		t.Error("it is over as it begins")
	default:
	}
	end()
	<-over
	<-s.over(4)
	if len(s.open) != 0 {
		t.Errorf("%d streams are kept", len(s.open))
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, StatusConnected, ""))
	f.Add(appendAnswer(nil, StatusLimit, "too many"))
	f.Add([]byte("\x05\x03a\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		err := readAnswer(r)
		read := len(b) - r.Len()
		var refused *RefusedError
		switch {
		case err == io.ErrUnexpectedEOF:
			return
		case err == nil:
			if b[0] != 0 || read != 2+int(b[1]) {
				t.Errorf("%x: connected after %d bytes", b, read)
			}
			return
		case !errors.As(err, &refused) || refused.Status == StatusConnected:
			t.Fatalf("%x: %v", b, err)
		}
		if !utf8.ValidString(refused.Reason) || strings.ContainsFunc(refused.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%x: the reason %q is not printable", b, refused.Reason)
		}
		// What is said once more comes out the same, as far as it fits.
		again := readAnswer(bytes.NewReader(appendAnswer(nil, refused.Status, refused.Reason)))
		if second := new(RefusedError); !errors.As(again, &second) || second.Status != refused.Status || !strings.HasPrefix(refused.Reason, second.Reason) {
			t.Errorf("%x: %v, then %v", b, err, again)
		}
	})
}
