// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What an answer can be: a document, a line for each item, or sessions one after
// another, each its length as a varint and its binary form.
const (
	typeJSON   = "application/json"
	typeLines  = "application/jsonl"
	typeBinary = "application/vnd.xdp-roam.sessions"
)

const (
	// streamBuffer is how much of a long answer is sent at a time, in bytes.
	streamBuffer = 64 << 10
	// streamPatience is how long whoever asked may stand still: a person may read
	// a page of a list.
	streamPatience = 10 * time.Minute
)

// patientWriter gives each write of an answer its own time: a long one as a whole
// may take any.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func newPatientWriter(w http.ResponseWriter) patientWriter {
	return patientWriter{w, http.NewResponseController(w)}
}

func (w patientWriter) Write(b []byte) (int, error) {
	// Not every writer has deadlines, such as a recorder in a test.
	if err := w.control.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return w.ResponseWriter.Write(b)
}

// sessionStream writes sessions as they come, in the form that was asked for.
type sessionStream struct {
	out     *bufio.Writer
	binary  bool
	began   bool
	scratch []byte
}

func newSessionStream(w http.ResponseWriter, r *http.Request) *sessionStream {
	s := &sessionStream{out: bufio.NewWriterSize(newPatientWriter(w), streamBuffer), binary: r.Header.Get("Accept") == typeBinary}
	if s.binary {
		w.Header().Set("Content-Type", typeBinary)
	} else {
		w.Header().Set("Content-Type", typeJSON)
	}
	return s
}

func (s *sessionStream) session(one *Session) error {
	if s.binary {
		s.scratch, _ = one.AppendBinary(s.scratch[:0])
		if _, err := s.out.Write(binary.AppendUvarint(s.out.AvailableBuffer(), uint64(len(s.scratch)))); err != nil {
			return err
		}
	} else {
		s.scratch = one.AppendJSON(append(s.scratch[:0], s.separator()...))
	}
	_, err := s.out.Write(s.scratch)
	return err
}

// separator is what stands before the next item of a document.
func (s *sessionStream) separator() string {
	if s.began {
		return ",\n"
	}
	s.began = true
	return documentHead(KindSession)
}

// end sends what is left.
func (s *sessionStream) end() error {
	if !s.binary {
		if !s.began {
			_, _ = s.out.WriteString(documentHead(KindSession)) // an error stays for Flush
		}
		_, _ = s.out.WriteString("]}\n")
	}
	return s.out.Flush()
}

// documentHead is a Document up to its first item.
func documentHead(kind string) string {
	return fmt.Sprintf(`{"api_version":%q,"kind":%q,"items":[`, APIVersion, kind)
}

// maxBinary bounds the binary form of a session in bytes.
const maxBinary = 64 << 10

// readSessions calls f for each session of the binary stream r. What f is given is
// valid until it returns.
func readSessions(r io.Reader, f func(*Session) error) error {
	in := bufio.NewReaderSize(r, streamBuffer)
	var form []byte
	var s Session
	for {
		size, err := binary.ReadUvarint(in)
		if err == io.EOF {
			return nil
		}
		if err == nil && size > maxBinary {
			err = errBinary
		}
		if err != nil {
			return err
		}
		if uint64(cap(form)) < size {
			form = make([]byte, size)
		}
		form = form[:size]
		if _, err := io.ReadFull(in, form); err != nil {
			return io.ErrUnexpectedEOF
		}
		if err := s.UnmarshalBinary(form); err != nil {
			return err
		}
		if err := f(&s); err != nil {
			return err
		}
	}
}

// readLines calls f for each item of a stream of JSON lines.
func readLines[T any](r io.Reader, f func(T) error) error {
	decoder := json.NewDecoder(r)
	for {
		var item T
		if err := decoder.Decode(&item); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(item); err != nil {
			return err
		}
	}
}
