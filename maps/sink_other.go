// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package maps

import (
	"errors"
	"io"
	"syscall"
)

// Sink is for the socket stage, which is Linux's.
func (k *Sockets) Sink(uint16, syscall.RawConn) (io.Closer, error) { return nil, errors.ErrUnsupported }
