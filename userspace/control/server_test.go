// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A page of the Web that gets at the socket by a forwarded port changes nothing, and
// under a name of its own it reads nothing either.
func TestPagesOfTheWebAreKeptOut(t *testing.T) {
	drained := make(chan time.Duration, 1)
	handler := notForPages(NewHandler(fixed{drained: drained}))
	for name, test := range map[string]struct {
		method, path, host, origin string
		code                       int
	}{
		"a command":             {http.MethodGet, "/v1/status", "xdp-roam", "", http.StatusOK},
		"curl":                  {http.MethodGet, "/v1/status", "x", "", http.StatusOK},
		"a forwarded port":      {http.MethodGet, "/v1/status", "localhost:9000", "", http.StatusOK},
		"its address":           {http.MethodGet, "/v1/status", "127.0.0.1:9000", "", http.StatusOK},
		"its IPv6 address":      {http.MethodGet, "/v1/status", "[::1]:9000", "", http.StatusOK},
		"another page's form":   {http.MethodPost, "/v1/drain", "localhost:9000", "https://evil.example", http.StatusForbidden},
		"a rebound name":        {http.MethodGet, "/v1/sessions", "evil.example:9000", "", http.StatusMisdirectedRequest},
		"a rebound name's form": {http.MethodPost, "/v1/drain", "evil.example", "http://evil.example", http.StatusMisdirectedRequest},
		"a rebound name's dot":  {http.MethodPost, "/v1/drain", "evil.", "http://evil.", http.StatusMisdirectedRequest},
	} {
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(`{"timeout_ns":1}`))
		r.Host = test.host
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != test.code {
			t.Errorf("%s: %d, want %d: %s", name, w.Code, test.code, w.Body)
		}
	}
	if len(drained) != 0 {
		t.Error("a page has drained the daemon")
	}
}

// Whoever stops waiting for a daemon that does not answer reads nothing of an http:// address.
func TestAnErrorNamesTheSocketAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	s, err := Listen(path, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := NewClient(path).Status(ctx); err == nil || strings.Contains(err.Error(), "http") || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}
