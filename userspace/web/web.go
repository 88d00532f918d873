// SPDX-License-Identifier: Apache-2.0

// Package web serves an edge's metrics, a status page drawn from them, and the read-only
// API over TCP.
//
// Nothing here changes anything. Without a token it listens on loopback only, and
// then every user of the host may read it, so it tells numbers only and nothing of
// a session or a client; with one it tells whoever has the token all.
package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ErrExposed means that an address beyond loopback has no token.
var ErrExposed = errors.New("an address beyond loopback needs a token")

// Config says what is served, where and to whom.
type Config struct {
	Listen netip.AddrPort
	// Token is what a request must bear (RFC 6750). Empty: none is asked for, and
	// Listen must be on loopback.
	Token string
	// Metrics is served at /metrics, API, with a token, below /v1/.
	Metrics, API http.Handler
	// Page is whether the status page is served at /. It draws /metrics. It is the
	// same for everyone and says nothing, so that it can ask a person for the token.
	Page bool
	// Log gets what goes wrong with connections.
	Log *slog.Logger
}

// Bounds of what a stranger can hold, beside those of guests.
const (
	maxHeader     = 16 << 10 // bytes
	headerTimeout = 5 * time.Second
)

//go:embed page
var files embed.FS

// Server listens until Close.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Listen opens the address. Errors: ErrExposed, and those of net.Listen.
func Listen(ctx context.Context, c Config) (*Server, error) {
	if c.Token == "" && !c.Listen.Addr().IsLoopback() {
		return nil, fmt.Errorf("%w: %v", ErrExposed, c.Listen)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen.String())
	if err != nil {
		return nil, err
	}
	return &Server{listener: &guests{Listener: listener}, http: http.Server{
		Handler: NewHandler(c), MaxHeaderBytes: maxHeader, ConnContext: introduce,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // strangers can fill it
	}}, nil
}

// Addr returns the address, with the port that the system chose for 0.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until Close; it then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops answering.
func (s *Server) Close() error {
	err := s.http.Close()
	// The listener as well: Serve may not have begun, and then the HTTP server does not know it.
	s.listener.Close()
	return err
}

// NewHandler is what Listen serves, whatever it is reached by.
func NewHandler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", authorized(c.Token, c.Metrics))
	if c.Token != "" && c.API != nil {
		mux.Handle("GET /v1/", authorized(c.Token, c.API))
	}
	if c.Page {
		page, _ := fs.Sub(files, "page") // it is there: it is embedded
		static := http.FileServerFS(page)
		for _, path := range []string{"GET /{$}", "GET /page.js", "GET /draw.js", "GET /page.css"} {
			mux.Handle(path, static)
		}
	}
	return safe(c.Token == "", mux)
}

// authorized lets only those pass who bear the token.
func authorized(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		// Sums are of one length: the time it takes tells nothing of the token's.
		sum := sha256.Sum256([]byte(got))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="xdp-roam"`)
			http.Error(w, "this needs the token of the edge: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		recognise(r.Context())
		next.ServeHTTP(w, r)
	})
}

// policy lets the page load its own files and talk to its own server, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// safe sets the headers that keep a browser from doing more than is meant. With
// checkHost a page of the Web that has its name point to loopback (DNS rebinding)
// reads nothing: the browser sends that name.
func safe(checkHost bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if checkHost && !isLocal(r.Host) {
			http.Error(w, "ask for localhost or an address, or set a token", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLocal reports whether a Host header names this machine by itself and not by a name
// that someone else could have made up.
func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
