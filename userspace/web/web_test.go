// SPDX-License-Identifier: Apache-2.0

package web

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

const secret = "correct-horse-battery-staple"

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

func handler(token string, page bool) http.Handler {
	return NewHandler(Config{Token: token, Page: page, Metrics: says("metrics"), API: says("api")})
}

func ask(h http.Handler, method, host, path, authorization string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder.Result()
}

func TestWhoMayRead(t *testing.T) {
	for _, c := range []struct {
		token, method, host, path, authorization string
		status                                   int
	}{
		{"", "GET", "127.0.0.1:9626", "/metrics", "", 200},
		{"", "GET", "[::1]:9626", "/metrics", "", 200},
		{"", "GET", "localhost:9626", "/metrics", "", 200},
		{"", "GET", "localhost", "/", "", 200},
		// A name of the attacker's that points to loopback.
		{"", "GET", "evil.example:9626", "/metrics", "", 421},
		{"", "GET", "localhost.evil.example", "/metrics", "", 421},
		{"", "GET", "", "/metrics", "", 421},
		// Without a token, nothing of sessions.
		{"", "GET", "localhost", "/v1/sessions", "", 404},
		{secret, "GET", "edge.example", "/metrics", "", 401},
		{secret, "GET", "edge.example", "/metrics", "Bearer", 401},
		{secret, "GET", "edge.example", "/metrics", "Bearer " + secret + "x", 401},
		{secret, "GET", "edge.example", "/metrics", "Bearer " + secret[:5], 401},
		{secret, "GET", "edge.example", "/metrics", "Basic " + secret, 401},
		{secret, "GET", "edge.example", "/metrics", "Bearer " + secret, 200},
		{secret, "GET", "edge.example", "/metrics", "bearer " + secret, 200},
		{secret, "GET", "edge.example", "/v1/sessions", "", 401},
		{secret, "GET", "edge.example", "/v1/sessions", "Bearer " + secret, 200},
		// Nothing is changed from here.
		{secret, "POST", "edge.example", "/v1/drain", "Bearer " + secret, 405},
		{secret, "DELETE", "edge.example", "/metrics", "Bearer " + secret, 405},
		// The page says nothing by itself.
		{secret, "GET", "edge.example", "/", "", 200},
		{secret, "GET", "edge.example", "/page.js", "", 200},
		{secret, "GET", "edge.example", "/web.go", "", 404},
	} {
		if r := ask(handler(c.token, true), c.method, c.host, c.path, c.authorization); r.StatusCode != c.status {
			t.Errorf("token %q, %s %s%s, %q: status %d, want %d", c.token, c.method, c.host, c.path, c.authorization, r.StatusCode, c.status)
		} else if (c.status == 401) != strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%d with WWW-Authenticate %q", c.status, r.Header.Get("WWW-Authenticate"))
		}
	}
	if r := ask(handler("", false), "GET", "localhost", "/", ""); r.StatusCode != 404 {
		t.Errorf("a page that nobody has asked for: status %d", r.StatusCode)
	}
}

// What the page loads is its own, and the browser is told to take nothing else.
func TestPageIsWhole(t *testing.T) {
	h := handler("", true)
	for path, kind := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript", "/draw.js": "text/javascript"} {
		r := ask(h, "GET", "localhost", path, "")
		text, _ := io.ReadAll(r.Body)
		if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: status %d, %s", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for _, bad := range []string{"http://", "https://", "innerHTML", "eval(", " style=", "onclick="} {
			if strings.Contains(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", ""), bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
}

func TestListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if _, err := Listen(t.Context(), Config{Listen: netip.MustParseAddrPort("0.0.0.0:0"), Log: log}); !errors.Is(err, ErrExposed) {
		t.Errorf("everyone's, without a token: %v", err)
	}
	s, err := Listen(t.Context(), Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Metrics: says("metrics"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	r, err := http.Get("http://" + s.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); string(text) != "metrics" {
		t.Errorf("got %q", text)
	}
	if err := errors.Join(s.Close(), <-served); err != nil {
		t.Error(err)
	}
}
