// SPDX-License-Identifier: Apache-2.0

package loader

import "errors"

// What kind of trouble an error is: each has an exit code of its own.
var (
	ErrPermission  = errors.New("not permitted")
	ErrUnsupported = errors.New("not supported by this kernel or interface")
	ErrConflict    = errors.New("conflict")
	ErrNotLoaded   = errors.New("not loaded")
	ErrNoInterface = errors.New("no such interface")
)

// Error says what went wrong and why; Fix says how to mend it. errors.Is finds
// its kind and what the kernel said.
type Error struct {
	Kind  error  // one of the sentinels, or nil
	What  string // "cannot attach to eth0 in xdp mode"
	Cause string // "driver e1000 has no native XDP"; may be empty
	Err   error  // what the kernel or a library said, last in the text; may be nil
	fix   string
}

// Error returns what, cause and what the kernel said.
func (e *Error) Error() string {
	s := e.What
	if e.Cause != "" {
		s += ": " + e.Cause
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Fix returns what a person can do about it.
func (e *Error) Fix() string { return e.fix }

// Unwrap returns the kind and the underlying error.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// causeOf returns the shortest text that says why.
func causeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		if e.Cause != "" {
			return e.Cause
		}
		return e.What
	}
	return err.Error()
}
