// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
)

// ReadFile overlays the TOML file name on c. Relative paths in the file are
// relative to its directory. Errors of the content wrap ErrInvalid and begin
// with file:line.
func (c *Config) ReadFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	file := *c
	if err := DecodeStrict(name, string(text), &file); err != nil {
		return err
	}
	for _, path := range []struct{ was, now *string }{
		{&c.KeyFile, &file.KeyFile}, {&c.PreviousKeyFile, &file.PreviousKeyFile},
		{&c.AuthorizedKeys, &file.AuthorizedKeys}, {&c.StateDir, &file.StateDir},
		{&c.Metrics.TokenFile, &file.Metrics.TokenFile},
	} {
		if *path.now != *path.was && *path.now != "" && !filepath.IsAbs(*path.now) {
			*path.now = filepath.Join(filepath.Dir(name), *path.now)
		}
	}
	*c = file
	return nil
}
