// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bufio"
	"io"
	"testing"

	"github.com/pires/go-proxyproto"
)

// The backend that wants it is told the client's validated address first.
func TestProxyProtocol(t *testing.T) {
	l, spec := newBackend(t)
	s, m := newEdge(t, spec+"?proxy=v2", Limits{}).dial()
	near := connect(t, m)
	near.Write([]byte("GET /"))
	far := accept(t, l)
	r := bufio.NewReader(far)
	header, err := proxyproto.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := header.SourceAddr.String(); header.Version != 2 || got != s.LocalAddr().String() {
		t.Errorf("version %d from %s, want the client's %v", header.Version, got, s.LocalAddr())
	}
	if got := header.DestinationAddr.String(); got != s.RemoteAddr().String() {
		t.Errorf("to %s, want the server's %v", got, s.RemoteAddr())
	}
	tlvs, err := header.TLVs()
	if err != nil || len(tlvs) != 1 || tlvs[0].Type != proxyproto.PP2_TYPE_UNIQUE_ID || len(tlvs[0].Value) != 32 {
		t.Errorf("TLVs %v, %v; want the session's id", tlvs, err)
	}
	line := make([]byte, 5)
	if _, err := io.ReadFull(r, line); string(line) != "GET /" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}
