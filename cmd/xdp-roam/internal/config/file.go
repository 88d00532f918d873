// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
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
	if err := file.parse(name, string(text)); err != nil {
		return err
	}
	for _, path := range []struct{ was, now *string }{
		{&c.KeyFile, &file.KeyFile}, {&c.PreviousKeyFile, &file.PreviousKeyFile},
		{&c.AuthorizedKeys, &file.AuthorizedKeys}, {&c.StateDir, &file.StateDir},
	} {
		if *path.now != *path.was && *path.now != "" && !filepath.IsAbs(*path.now) {
			*path.now = filepath.Join(filepath.Dir(name), *path.now)
		}
	}
	*c = file
	return nil
}

func (c *Config) parse(name, text string) error {
	meta, err := toml.Decode(text, c)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			message := parse.Message
			if message == "" {
				message = strings.TrimPrefix(parse.Error(), "toml: ")
			}
			key := ""
			if parse.LastKey != "" {
				key = " (at " + parse.LastKey + ")"
			}
			return fmt.Errorf("%w: %s:%d: %s%s", ErrInvalid, name, parse.Position.Line, message, key)
		}
		return fmt.Errorf("%w: %s: %s", ErrInvalid, name, strings.TrimPrefix(err.Error(), "toml: "))
	}
	var unknown []error
	for _, key := range meta.Undecoded() {
		table := strings.Join(key[:len(key)-1], ".")
		known := keysOf(reflect.TypeFor[Config]())
		if table == "service" {
			known = keysOf(reflect.TypeFor[Service]())
		}
		unknown = append(unknown, fmt.Errorf("%w: %s:%s unknown key %q%s", ErrInvalid, name,
			lineOf(text, key), key.String(), didYouMean(key[len(key)-1], known)))
	}
	return errors.Join(unknown...)
}

// keysOf lists the TOML keys of a struct, so that the near matches can never
// disagree with what is decoded.
func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		keys = append(keys, strings.Split(field.Tag.Get("toml"), ",")[0])
	}
	return keys
}

// lineOf finds the line that key was written on, as "LINE:"; empty when its
// spelling in the file differs (quoted or dotted keys). The TOML package tells
// positions of errors only.
func lineOf(text string, key toml.Key) string {
	last := key[len(key)-1]
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		left, _, assigned := strings.Cut(line, "=")
		header := strings.TrimSpace(strings.Trim(strings.TrimSpace(strings.Split(line, "#")[0]), "[]"))
		if assigned && strings.TrimSpace(left) == last || strings.HasPrefix(line, "[") && header == key.String() {
			return fmt.Sprintf("%d:", number)
		}
	}
	return ""
}

// didYouMean suggests the candidate nearest to word, if one is near.
func didYouMean(word string, candidates []string) string {
	best, limit := "", len(word)/3+2
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(word), candidate); d < limit {
			best, limit = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
