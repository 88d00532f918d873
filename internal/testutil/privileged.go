// SPDX-License-Identifier: Apache-2.0

// Package testutil holds what tests of several packages share.
package testutil

import (
	"os"
	"testing"
)

// RequiredEnv turns skips for missing privileges into failures; CI sets it to 1.
const RequiredEnv = "XDP_ROAM_REQUIRE_PRIVILEGED"

// RequirePrivileged skips the test with a stated cause unless it runs as root,
// and fails it instead where RequiredEnv is 1.
func RequirePrivileged(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	SkipOrFail(t, "needs root: it loads BPF programs and makes network namespaces")
}

// SkipOrFail skips the test because of cause, or fails it where RequiredEnv is 1.
func SkipOrFail(t testing.TB, cause string) {
	t.Helper()
	if os.Getenv(RequiredEnv) == "1" {
		t.Fatalf("%s (and %s=1 forbids skipping)", cause, RequiredEnv)
	}
	t.Skip(cause)
}
