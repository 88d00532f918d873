// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
)

// failure is what is wrong with a backend, for both ends.
type failure struct {
	status relay.Status
	text   string // for the client; it tells nothing of addresses behind the server
	fix    string // for the operator
}

// why says what is wrong with the backend.
func why(err error) failure {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure{relay.StatusRefused, "nothing listens at the service's address",
			"start the backend, or correct its address in the configuration"}
	case errors.Is(err, fs.ErrNotExist):
		return failure{relay.StatusRefused, "the service's socket does not exist",
			"start the program that makes the socket, or correct its path in the configuration"}
	case errors.As(err, &dns) && !dns.IsTimeout:
		return failure{relay.StatusUnreachable, "the service's name cannot be resolved",
			"correct the backend's name in the configuration, or this host's resolver"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return failure{relay.StatusUnreachable, "the service's host cannot be reached",
			"see whether the backend's host is up and a route leads to it"}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return failure{relay.StatusTimeout, "the service did not answer in time",
			"see whether the backend is overloaded, its host is up and no firewall drops what goes there"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failure{relay.StatusFailed, "the service closed the connection at once",
			"see the backend's own log; one that is sent ?proxy=v2 must expect that"}
	case errors.Is(err, fs.ErrPermission):
		return failure{relay.StatusFailed, "the server may not connect to the service's socket",
			"let the user of this daemon write to the socket"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return failure{relay.StatusLimit, "the server has no room for another connection; try again later",
			"raise the daemon's limit of open files (LimitNOFILE of its unit), or set max_streams below it"}
	}
	return failure{relay.StatusFailed, cmp.Or(errnoText(err), "the service failed"), "see the error"}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

func errnoText(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return ""
}

// failed and worked tell the operator when the backend goes and when it comes back,
// and not of every connection between.
func (s *Service) failed(err error) {
	s.failures.Add(1)
	if !s.down.Swap(true) {
		s.log.Warn("backend_down", "error", err, "fix", why(err).fix)
	}
}

func (s *Service) worked() {
	if s.down.Load() && s.down.Swap(false) {
		s.log.Info("backend_up")
	}
}
