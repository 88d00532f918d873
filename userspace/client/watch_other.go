// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package client

import (
	"context"
	"errors"
)

// watch has nothing portable to listen to.
func watch(context.Context, func()) error { return errors.ErrUnsupported }
