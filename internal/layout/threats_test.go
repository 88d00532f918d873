// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// threats is the document that links each threat to its tests.
var threats = filepath.Join("..", "..", "docs", "THREATS.md")

var (
	// testLink is a link to a test: [TestName](../path/to/file_test.go).
	testLink = regexp.MustCompile(`\[((?:Test|Fuzz)\w+)\]\(([^)]*)\)`)
	// testFunc is a test in a file.
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\((?:t \*testing\.T|f \*testing\.F)\)`)
	// threatTest is a test that is named after a row.
	threatTest = regexp.MustCompile(`(?m)^func (TestThreat\w+)\(`)
)

// Each row of docs/THREATS.md names a test after itself, each test that the
// document names exists where the link points, and no TestThreat is left out.
func TestThreatsAreTested(t *testing.T) {
	text, err := os.ReadFile(threats)
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, link := range testLink.FindAllStringSubmatch(string(text), -1) {
		name, path := link[1], link[2]
		linked[name] = true
		code, err := os.ReadFile(filepath.Join(filepath.Dir(threats), path))
		if err != nil {
			t.Errorf("docs/THREATS.md links %s to %s: %v", name, path, err)
			continue
		}
		if !strings.HasSuffix(path, "_test.go") || !slices.ContainsFunc(testFunc.FindAllStringSubmatch(string(code), -1), func(m []string) bool { return m[1] == name }) {
			t.Errorf("docs/THREATS.md: there is no %s in %s", name, path)
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "Threat" {
			continue
		}
		rows++
		if !strings.Contains(cells[3], "[TestThreat") {
			t.Errorf("docs/THREATS.md: no test is named after the row %q", strings.TrimSpace(cells[1]))
		}
	}
	if rows < 18 {
		t.Errorf("docs/THREATS.md has %d rows: is the table still |-separated with three columns?", rows)
	}
	out, err := exec.Command("git", "-C", filepath.Join("..", ".."), "ls-files", "*_test.go").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	for file := range strings.Lines(string(out)) {
		file = strings.TrimSpace(file)
		code, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil || strings.HasPrefix(file, "internal/layout/") {
			continue // removed in the working tree, or about the document itself
		}
		for _, m := range threatTest.FindAllStringSubmatch(string(code), -1) {
			if !linked[m[1]] {
				t.Errorf("%s: %s is in no row of docs/THREATS.md", file, m[1])
			}
		}
	}
}

// wallClock lists the files that may look at the wall clock, and what for. A step
// of it must change nothing, so elsewhere time is only compared with time.
var wallClock = map[string]string{
	"userspace/server/clock.go":       "reads it once at the start, and shows times to people",
	"userspace/client/watch_linux.go": "is told of steps, which is how it learns of a wake-up",
	"userspace/client/host_other.go":  "compares it with the monotonic clock to notice sleep",
	"userspace/client/dial.go":        "makes a deadline that is long past",
	"userspace/control/codec.go":      "carries times to people",
	"userspace/control/query.go":      "sorts by times for people",
}

// readsWall reports whether an expression brings out the wall clock's reading, takes
// the monotonic one away, or names the clock itself.
func readsWall(n ast.Node) bool {
	if s, ok := n.(*ast.SelectorExpr); ok {
		return s.Sel.Name == "CLOCK_REALTIME"
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch s.Sel.Name {
	case "Unix", "UnixNano", "UnixMilli", "UnixMicro", "UTC", "Local", "In":
		return true
	case "Round", "Truncate":
		arg, ok := call.Args[0].(*ast.BasicLit)
		return ok && arg.Value == "0"
	}
	return false
}

// Cookies and sessions live by a clock that never steps.
func TestWallClockIsReadOnce(t *testing.T) {
	found := map[string]bool{}
	for _, pattern := range []string{"userspace/*/*.go", "maps/*.go", "bpf/*.go"} {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			rel, _ := filepath.Rel(filepath.Join("..", ".."), file)
			rel = filepath.ToSlash(rel)
			set := token.NewFileSet()
			code, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(code, func(n ast.Node) bool {
				if !readsWall(n) {
					return true
				}
				found[rel] = true
				if wallClock[rel] == "" {
					t.Errorf("%s: the wall clock: a step of it must change nothing; if it cannot here, list the file in this test",
						set.Position(n.Pos()))
				}
				return true
			})
		}
	}
	for file := range wallClock {
		if !found[file] {
			t.Errorf("%s does not look at the wall clock: strike it off this test's list", file)
		}
	}
	// The data plane has the kernel's monotonic clock alone.
	headers, err := filepath.Glob(filepath.Join("..", "..", "bpf", "*.h"))
	if err != nil || len(headers) == 0 {
		t.Fatal(err)
	}
	clock := regexp.MustCompile(`bpf_ktime_\w+`)
	for _, file := range headers {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range clock.FindAllString(string(code), -1) {
			if call != "bpf_ktime_get_ns" && call != "bpf_ktime_get_coarse_ns" {
				t.Errorf("%s: %s is not the monotonic clock", file, call)
			}
		}
	}
}
