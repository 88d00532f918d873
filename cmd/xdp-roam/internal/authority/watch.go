// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a directory must be quiet before the file is read: who
	// replaces a file does it in several steps.
	settle = 100 * time.Millisecond
	// patience is when it is read all the same.
	patience = time.Second
)

// Watch calls changed after something happened where the list's files are, until
// ctx ends. It watches directories and not files: editors put another file in the
// place of the one that is there.
func (l *List) Watch(ctx context.Context, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", l.file, err)
	}
	defer w.Close()
	if err := l.watchDirectories(w); err != nil {
		return err
	}
	changed() // what happened since the file was read, before it was watched
	quiet := time.NewTimer(0)
	<-quiet.C
	var since time.Time // of the first event that was not acted on
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
		case <-w.Errors: // some events were lost, so look
		case <-quiet.C:
			since = time.Time{}
			changed()
			if err := l.watchDirectories(w); err != nil {
				return err
			}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		quiet.Reset(min(settle, max(0, patience-time.Since(since))))
	}
}

// watchDirectories adds the directories of the list and of the files that it
// names, and of what these are links to. Watching one twice changes nothing.
func (l *List) watchDirectories(w *fsnotify.Watcher) error {
	files := append([]string{l.file}, l.inForce.Load().PSKFiles...)
	for i, file := range files {
		if err := w.Add(filepath.Dir(file)); err != nil && i == 0 {
			return fmt.Errorf("watch %s: %w", filepath.Dir(file), err)
		}
		if target, err := filepath.EvalSymlinks(file); err == nil {
			_ = w.Add(filepath.Dir(target)) // SIGHUP is left
		}
	}
	return nil
}
