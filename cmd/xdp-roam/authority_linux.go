// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/authority"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// reloads are the SIGHUPs that tell a daemon to read its files again. The signal
// has ended the command until here, as it ends every other one.
func reloads() chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Ignore(syscall.SIGHUP) // takes it away from whoever had it; between the two calls one is lost, not deadly
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// startAuthority follows authorized_keys from now on.
func (d *edge) startAuthority(ctx context.Context) {
	d.background.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.hangup:
				d.notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
				d.reloadAuthority(true)
				d.notify(systemd.SdNotifyReady)
			}
		}
	})
	if d.authority == nil {
		return
	}
	d.logWarnings()
	d.background.Go(func() {
		if err := d.authority.Watch(ctx, func() { d.reloadAuthority(false) }); err != nil {
			d.log.Error("changes of authorized_keys are not noticed any more; SIGHUP has it read again", "error", err)
		}
	})
}

// reloadAuthority reads authorized_keys again and ends the sessions that it no
// longer lets in. asked: by a person, who gets an answer in any case.
func (d *edge) reloadAuthority(asked bool) {
	if d.authority == nil {
		d.log.Info("SIGHUP: nothing to read again: allow_anonymous serves every key, and other settings need a restart")
		return
	}
	before := d.authority.State()
	change, err := d.authority.Reload()
	switch {
	case err != nil:
		if asked || before.Err == nil || before.Err.Error() != err.Error() {
			d.log.Error("authorized_keys is wrong and not used: the list before it stays in force", "file", d.conf.AuthorizedKeys,
				"error", err, "clients", before.Clients, "in_force_since", before.Read, "fix", "mend the file; it is read again by itself")
		}
	case change.Empty() && before.Err == nil && !asked:
	default:
		ended := 0
		if !change.Empty() {
			ended = d.server.Revoke(change.Revoked)
		}
		d.log.Info("authorized_keys was read again", "file", d.conf.AuthorizedKeys, "clients", d.authority.State().Clients,
			"added", listed(change.Added), "removed", listed(change.Removed), "changed", listed(change.Changed), "sessions_ended", ended)
		d.logWarnings()
	}
}

func (d *edge) logWarnings() {
	for _, warning := range d.authority.Warnings() {
		d.log.Warn(warning)
	}
}

// maxListed is how many names a log line holds.
const maxListed = 20

func listed(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], " ") + " and others"
	}
	return strings.Join(names, " ")
}

// authorityItem is the list as status shows it; nil where there is none.
func authorityItem(l *authority.List) *control.AuthorizedKeys {
	if l == nil {
		return nil
	}
	s := l.State()
	item := &control.AuthorizedKeys{File: s.File, Clients: s.Clients, Read: s.Read, Failed: s.Failed}
	if s.Err != nil {
		item.Error = s.Err.Error()
	}
	return item
}
