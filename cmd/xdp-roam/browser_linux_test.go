// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium in the edge's namespace, led by the DevTools protocol
// over a pipe: JSON, each message ended by a zero byte.
type browser struct {
	t    *testing.T
	to   *os.File
	next int
	tab  string // session of the one tab

	mu       sync.Mutex
	answers  map[int]chan browserMessage
	problems []string // what the page's console has said against it
}

type browserMessage struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// browse starts a browser with an empty page.
func (b *labBench) browse() *browser {
	b.t.Helper()
	need(b.t, "chromium", "chromium")
	in, to, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	// Its sandbox needs a user other than root; it sees no page but ours.
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+b.t.TempDir())
	cmd.Env = append(os.Environ(), "HOME="+b.t.TempDir(), "LC_ALL=C.UTF-8")
	cmd.ExtraFiles = []*os.File{in, out} // it reads 3 and writes 4
	b.startProgram(b.edge, cmd)
	in.Close()
	out.Close()
	w := &browser{t: b.t, to: to, answers: make(map[int]chan browserMessage)}
	b.t.Cleanup(func() { to.Close() })
	go w.read(from)
	var target struct{ TargetID string }
	w.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	w.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	w.tab = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		w.call(domain+".enable", nil, nil)
	}
	return w
}

// read hands answers to who waits for them, and keeps what goes wrong in the page.
func (w *browser) read(from *os.File) {
	defer from.Close()
	for in := bufio.NewReader(from); ; {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m browserMessage
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		w.mu.Lock()
		switch {
		case m.ID != 0:
			w.answers[m.ID] <- m
		case m.Method == "Log.entryAdded", m.Method == "Runtime.exceptionThrown":
			w.problems = append(w.problems, string(m.Params))
		}
		w.mu.Unlock()
	}
}

// call asks the browser for something and decodes the answer.
func (w *browser) call(method string, params, into any) {
	w.t.Helper()
	w.next++
	answer := make(chan browserMessage, 1)
	w.mu.Lock()
	w.answers[w.next] = answer
	w.mu.Unlock()
	text, err := json.Marshal(struct {
		ID        int    `json:"id"`
		Method    string `json:"method"`
		Params    any    `json:"params,omitempty"`
		SessionID string `json:"sessionId,omitempty"`
	}{w.next, method, params, w.tab})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.to.Write(append(text, 0)); err != nil {
		w.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			w.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if into != nil {
			if err := json.Unmarshal(m.Result, into); err != nil {
				w.t.Fatalf("%s: %v: %s", method, err, m.Result)
			}
		}
	case <-time.After(patience):
		w.t.Fatalf("%s: the browser does not answer", method)
	}
}

// open goes to a page.
func (w *browser) open(url string) {
	w.t.Helper()
	w.call("Page.navigate", map[string]any{"url": url}, nil)
}

// eval returns what an expression of JavaScript is, as text.
func (w *browser) eval(expression string) string {
	w.t.Helper()
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}
	w.call("Runtime.evaluate", map[string]any{"expression": "String(" + expression + ")", "returnByValue": true}, &answer)
	if answer.ExceptionDetails != nil {
		return "exception: " + answer.ExceptionDetails.Text
	}
	return fmt.Sprint(answer.Result.Value)
}

// text is what an element of the page says.
func (w *browser) text(id string) string {
	w.t.Helper()
	return w.eval(`document.getElementById("` + id + `")?.innerText`)
}

// resize makes the window of that size; theme is light or dark.
func (w *browser) resize(width, height int, theme string) {
	w.t.Helper()
	w.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	w.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}}, nil)
}

// picture returns the whole page as PNG.
func (w *browser) picture() []byte {
	w.t.Helper()
	var answer struct{ Data string }
	w.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	return png
}

// complaints returns what the console has said since the last call: errors of scripts,
// of loading, and of the content security policy.
func (w *browser) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.problems
	w.problems = nil
	return list
}
