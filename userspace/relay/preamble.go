// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// The first byte of a stream, from its opener, says what it is for. It also lets
// the other end hear of the stream before the application has anything to say.
const (
	kindConnection = 1 // of the backend's
	kindQuestion   = 2 // whether another stream, whose number follows, is over
)

// Status is the server's answer to a stream, for programs; its reason is for people.
type Status uint8

// The answers. Numbers are never reused; unknown ones are refusals.
const (
	StatusConnected   Status = 0
	StatusRefused     Status = 1 // nothing listens at the backend's address
	StatusUnreachable Status = 2 // the backend's host or name cannot be reached
	StatusTimeout     Status = 3 // the backend did not answer in time
	StatusLimit       Status = 4 // too many streams
	StatusFailed      Status = 5 // the server failed otherwise
	StatusVersion     Status = 6 // the first byte was not understood
)

var statusNames = [...]string{"connected", "refused", "unreachable", "timeout", "limit", "failed", "version"}

// String returns the name.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// The codes that a stream is reset with.
const (
	CodeNone     stream.Code = 0 // nobody wants the rest
	CodeReset    stream.Code = 1 // the connection behind was reset
	CodeIdle     stream.Code = 2 // nothing went through for too long
	CodeShutdown stream.Code = 3 // the end that carries it shuts down
	CodeRefused  stream.Code = 4 // see the answer
)

var codeSentences = map[stream.Code]string{
	CodeReset:    "the service's connection was reset",
	CodeIdle:     "nothing went through for as long as the service allows",
	CodeShutdown: "the server has ended the connection",
}

// Explain says in words why the other end has reset a stream; other errors it returns
// as they are.
func Explain(err error) error {
	if reset, ok := errors.AsType[*stream.ResetError](err); ok && reset.Remote && codeSentences[reset.Code] != "" {
		return fmt.Errorf("%s: %w", codeSentences[reset.Code], err)
	}
	return err
}

// IsRefusal reports whether an error of writing means that the other end reads no more.
func IsRefusal(err error) bool {
	reset, ok := errors.AsType[*stream.ResetError](err)
	return ok && reset.Remote
}

// RefusedError means that the server has no connection for the stream. Another
// stream may have more luck: the server tries again each time.
type RefusedError struct {
	Status Status
	Reason string // a sentence, safe to show; may be empty
}

// Error gives the server's reason and, where that does not say it, the way out.
func (e *RefusedError) Error() string {
	msg := "the server refused the connection: " + cmp.Or(e.Reason, e.Status.String())
	switch e.Status {
	case StatusLimit: // it says what to do
	case StatusVersion:
		msg += "; update the older of the two ends"
	default:
		msg += "; tell its operator, and try again"
	}
	return msg
}

var (
	// ErrPreamble means that a stream did not begin as it must.
	ErrPreamble = errors.New("the stream does not begin as one of this protocol")
	// ErrAnswered means that a stream was no connection: it asked about another one.
	ErrAnswered = errors.New("the stream has asked, and was answered")
)

// maxReason is the longest reason in bytes.
const maxReason = 255

// appendAnswer appends u8 status, u8 length, the reason.
func appendAnswer(b []byte, status Status, reason string) []byte {
	reason = strings.ToValidUTF8(reason, "?")
	for len(reason) > maxReason {
		_, last := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-last]
	}
	return append(append(b, byte(status), byte(len(reason))), reason...)
}

// readAnswer returns nil if the server is connected, else a *RefusedError, the
// reader's error, or io.ErrUnexpectedEOF.
func readAnswer(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return unexpected(err)
	}
	reason := make([]byte, head[1])
	if _, err := io.ReadFull(r, reason); err != nil {
		return unexpected(err)
	}
	if status := Status(head[0]); status != StatusConnected {
		return &RefusedError{Status: status, Reason: printable(string(reason))}
	}
	return nil
}

// appendQuestion appends u8 kind, u64 stream, the opener's bytes of a question.
func appendQuestion(b []byte, about int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kindQuestion), uint64(about))
}

// readOpening takes what the opener has to say before its connection's bytes, or the
// whole question.
func readOpening(r io.Reader) (about int64, question bool, err error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, false, unexpected(err)
	}
	switch head[0] {
	case kindConnection:
		return 0, false, nil
	case kindQuestion:
		var number [8]byte
		if _, err := io.ReadFull(r, number[:]); err != nil {
			return 0, true, unexpected(err)
		}
		return int64(binary.BigEndian.Uint64(number[:])), true, nil
	}
	return 0, false, fmt.Errorf("%w: kind %d", ErrPreamble, head[0])
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// printable makes what the other end wrote safe for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
