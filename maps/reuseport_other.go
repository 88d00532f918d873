// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package maps

import "errors"

func attachReuseport(int, int) error { return errors.ErrUnsupported }
