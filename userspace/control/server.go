// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server answers on one control socket. Close removes the socket.
type Server struct {
	path     string
	listener *net.UnixListener
	inode    os.FileInfo
	http     http.Server
	end      context.CancelFunc // of requests that go on until then: events, lists

	mu       sync.Mutex // guards what is begun of requests against Stop
	stopped  bool
	requests sync.WaitGroup
}

// closeWait is how long Stop and Close let answers go out that are being written.
const closeWait = time.Second

// Listen makes the socket at path, mode 0600, and the directory for it, to serve
// handler on: NewHandler, perhaps with more beside it. The
// socket appears complete or not at all: it is made under another name and
// renamed. A socket that a dead daemon left is replaced; ErrInUse when a
// living one answers on it, ErrPathTooLong. A path that is no socket is never touched.
func Listen(path string, handler http.Handler) (*Server, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	directory := filepath.Dir(path)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the control socket's directory: %w", err)
	}
	unlock, err := lockDirectory(directory)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkStale(path); err != nil {
		return nil, err
	}
	private := path + newSuffix
	temporary := private + newSocket
	clearPrivate(private) // one that was killed may have left its own
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the control socket: %w", err)
	}
	defer clearPrivate(private)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	s := &Server{path: path, listener: listener}
	if err = os.Chmod(temporary, 0o600); err == nil {
		if s.inode, err = os.Lstat(temporary); err == nil {
			err = os.Rename(temporary, path)
		}
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("cannot make the control socket: %w", err)
	}
	handler = s.untilStop(notForPages(handler))
	life, end := context.WithCancel(context.Background())
	s.end = end
	s.http = http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return life },
	}
	return s, nil
}

// notForPages keeps pages of the Web out where someone forwards the socket to a port
// (ssh -L): they may neither send what changes something nor, under a name of their own
// that they have point to that port (DNS rebinding), read.
func notForPages(handler http.Handler) http.Handler {
	handler = http.NewCrossOriginProtection().Handler(handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isPublicName(r.Host) {
			http.Error(w, "ask for localhost or an address", http.StatusMisdirectedRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// isPublicName reports whether a Host header has a name that the DNS could know: one
// with a dot that is no address.
func isPublicName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && strings.Contains(host, ".")
}

// Serve answers until Close; it then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// untilStop answers ErrEnding once Stop has begun.
func (s *Server) untilStop(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		stopped := s.stopped
		if !stopped {
			s.requests.Add(1)
		}
		s.mu.Unlock()
		if stopped {
			http.Error(w, ErrEnding.Error(), http.StatusServiceUnavailable)
			return
		}
		defer s.requests.Done()
		handler.ServeHTTP(w, r)
	})
}

// Stop ends the handler's work: whoever asks from now on learns that the daemon is
// ending, ErrEnding. The socket stays, for what waits until the daemon has taken all
// away that it holds. Whoever has asked by then gets the answer: a drain of a server
// without sessions ends it at once, and is not to look like a failure.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.end()
	answered := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(answered)
	}()
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	select {
	case <-answered:
	case <-patience.C:
	}
}

// Close is Stop, and removes the socket, unless another daemon has taken its name
// since.
func (s *Server) Close() error {
	s.Stop()
	unlock, err := lockDirectory(filepath.Dir(s.path))
	if err == nil {
		defer unlock()
	}
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.inode) {
		os.Remove(s.path)
	}
	patience, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if err = s.http.Shutdown(patience); err != nil {
		err = s.http.Close()
	}
	// The listener as well: Serve may not have begun, and then the HTTP server does not know it.
	s.listener.Close()
	return err
}

// checkStale returns nil when path is free or a socket that nobody listens on.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot make the control socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is in the way of the control socket and is no socket: remove it or name another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%w: %s; stop it first, or give this one another instance name", ErrInUse, path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// Only a refusal proves that nobody listens: a daemon with a full backlog, for
	// one, does not answer either.
	return fmt.Errorf("%w, or cannot be asked (%w): %s; stop it first, or give this one another instance name", ErrInUse, err, path)
}
