// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// DecodeStrict reads the TOML text of the file name into what into points to. A
// key that it has no place for is an error, since a setting that is misspelt and
// skipped is worse than none. Errors wrap ErrInvalid and begin with file:line.
func DecodeStrict(name, text string, into any) error {
	meta, err := toml.Decode(text, into)
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
		if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
			message := m[3]
			if types := typesOf.FindStringSubmatch(message); types != nil {
				message = fmt.Sprintf("it is of type %s where %s belongs", types[1], types[2])
			}
			return fmt.Errorf("%w: %s:%s: %s (at %s)", ErrInvalid, name, m[1], message, m[2])
		}
		return fmt.Errorf("%w: %s: %s", ErrInvalid, name, strings.TrimPrefix(err.Error(), "toml: "))
	}
	var unknown []error
	for _, key := range meta.Undecoded() {
		known := keysAt(reflect.TypeOf(into), key[:len(key)-1])
		unknown = append(unknown, fmt.Errorf("%w: %s:%s unknown key %q%s", ErrInvalid, name,
			LineOf(text, key...), key.String(), didYouMean(key[len(key)-1], known)))
	}
	return errors.Join(unknown...)
}

// What the TOML package says of a value that does not fit: the only errors of its own
// that have no ParseError.
var (
	wrongType = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*?)"\): (.*)$`)
	typesOf   = regexp.MustCompile(`TOML value has type (\S+); destination has type (\S+)$`)
)

// keysAt lists the TOML keys of the table at path of a type, so that the near
// matches can never disagree with what is decoded.
func keysAt(t reflect.Type, path toml.Key) []string {
	for {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice:
			t = t.Elem()
			continue
		case reflect.Map:
			if len(path) == 0 {
				return nil
			}
			t, path = t.Elem(), path[1:]
			continue
		case reflect.Struct:
		default:
			return nil
		}
		var keys []string
		var next reflect.Type
		for field := range t.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
			keys = append(keys, key)
			if len(path) > 0 && key == path[0] {
				next = field.Type
			}
		}
		if len(path) == 0 {
			return keys
		}
		if next == nil {
			return nil
		}
		t, path = next, path[1:]
	}
}

// LineOf finds the line that a key was first written on, as "LINE:"; empty when
// its spelling in the file differs (dotted keys). The TOML package tells positions of
// errors only.
func LineOf(text string, key ...string) string {
	path := unquote.Replace(strings.Join(key, "."))
	table, number := "", 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			table = strings.TrimSpace(strings.Trim(strings.TrimSpace(strings.Split(line, "#")[0]), "[]"))
			table = unquote.Replace(table)
			if table == path {
				return fmt.Sprintf("%d:", number)
			}
			continue
		}
		left, _, assigned := strings.Cut(line, "=")
		left = unquote.Replace(strings.TrimSpace(left))
		if table != "" {
			left = table + "." + left
		}
		if assigned && left == path {
			return fmt.Sprintf("%d:", number)
		}
	}
	return ""
}

// unquote takes quotes out of keys.
var unquote = strings.NewReplacer(`"`, "", "'", "")

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
