// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"
)

// startSSH makes keys, starts sshd at the edge, and writes the client's configuration.
func (s *stage) startSSH(ctx context.Context) error {
	for _, key := range []string{"host", "user"} {
		if _, err := s.run(ctx, s.net.Client, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.scratch.Path(key)); err != nil {
			return err
		}
	}
	public, err := os.ReadFile(s.scratch.Path("host.pub"))
	if err != nil {
		return err
	}
	proxy := fmt.Sprintf("%s connect %s -W %d --server-key %v --identity %s", s.binary, serverName, portSSH, s.serverKey, s.scratch.Path("client.key"))
	for name, text := range map[string]string{
		"known_hosts": "* " + string(public),
		"ssh_config": fmt.Sprintf(`
Host *
	IdentityFile %[1]s
	IdentitiesOnly yes
	UserKnownHostsFile %[2]s
	StrictHostKeyChecking yes
	BatchMode yes
	LogLevel ERROR
	User root
	Port %[3]d
Host %[4]s
	ProxyCommand %[5]s
Host %[6]s
	HostName %[7]v
Host %[8]s
	HostName %[9]v
`, s.scratch.Path("user"), s.scratch.Path("known_hosts"), portSSH, overRoam.host, proxy, overTCP.host, overTCP.addr, overWireGuard.host, overWireGuard.addr),
	} {
		if err := os.WriteFile(s.scratch.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return s.server(ctx, portSSH, fmt.Sprintf(`
Port %d
ListenAddress 0.0.0.0
ListenAddress ::
HostKey SCRATCH/host
PidFile none
AuthorizedKeysFile SCRATCH/user.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
`, portSSH), "/usr/sbin/sshd", "-D", "-e", "-f", s.scratch.Path(fmt.Sprintf("%d.conf", portSSH)))
}

// typing is an interactive program on a terminal into which somebody types, and
// whose other end echoes.
type typing struct {
	*process
	meter
	screen screen
	typed  int
}

// screen keeps all that a terminal showed.
type screen struct{ tail }

// typist starts an interactive program and waits until it echoes.
func (s *stage) typist(ctx context.Context, environment []string, name string, args ...string) (*typing, error) {
	t := &typing{}
	var err error
	if t.process, err = s.startOnTerminal(s.net.Client, io.MultiWriter(&t.meter, &t.screen), environment, name, args...); err != nil {
		return nil, err
	}
	err = until(ctx, name+" is ready to be typed into", patience, func() bool { return t.dead() || t.screen.contains("ready") })
	if err == nil && t.dead() {
		err = fmt.Errorf("%s ended early: %w", name, t.failure())
	}
	return t, err
}

// remote is what typists run at the other end. It answers each line in capitals, so
// that what comes is the other end's beyond doubt.
const remote = `echo ready; while read -r word number; do echo "LINE $number"; done`

func (s *stage) sshTypist(ctx context.Context, over route) (*typing, error) {
	return s.typist(ctx, nil, "ssh", "-F", s.scratch.Path("ssh_config"), "-tt", over.host, remote)
}

// keystrokes is how often somebody types.
const keystrokes = 50 * time.Millisecond

// typeUntil types a line at each tick until done is closed or the program ends.
// Until it does, nothing comes: that is no pause.
func (t *typing) typeUntil(ctx context.Context, done <-chan struct{}) error {
	t.begin()
	tick := time.NewTicker(keystrokes)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.ended:
			return fmt.Errorf("%s ended under way: %w", t.name, t.failure())
		case <-tick.C:
			t.typed++
			if _, err := fmt.Fprintf(t.stdin, "line %06d\n", t.typed); err != nil {
				return err
			}
		}
	}
}

// finish waits for the last line's answer and ends the program by an end of file.
// mosh shows what differs from the screen before, so a line appears whole only when
// little else happens: the last one is typed again until it does.
func (t *typing) finish(ctx context.Context) error {
	err := until(ctx, t.name+" shows the last line's answer", patience, func() bool {
		t.typed++
		if _, err := fmt.Fprintf(t.stdin, "line %06d\n", t.typed); err != nil {
			return t.dead()
		}
		want := fmt.Sprintf("LINE %06d", t.typed)
		return until(ctx, "", time.Second, func() bool { return t.dead() || t.screen.contains(want) }) == nil
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, t.screen.quote())
	}
	if _, err := t.stdin.Write([]byte{4}); err != nil { // Ctrl-D
		return err
	}
	return t.wait(ctx)
}

// complete fails unless every line came back, in order.
func (t *typing) complete() error {
	t.screen.mu.Lock()
	defer t.screen.mu.Unlock()
	rest := t.screen.text
	for i := 1; i <= t.typed; i++ {
		_, after, ok := bytes.Cut(rest, fmt.Appendf(nil, "LINE %06d", i))
		if !ok {
			return fmt.Errorf("%s: line %d of %d is missing or out of order", t.name, i, t.typed)
		}
		rest = after
	}
	return nil
}

// copySize is what scp carries.
const copySize = 100_000_000

// makeFile writes random bytes and returns their sum.
func makeFile(path string, size int64) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.Reader, size); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), f.Close()
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// tryCopy copies 100 MB to the edge and back with scp, until the client has been everywhere.
func tryCopy(ctx context.Context, s *stage) error {
	return s.copy(ctx, overRoam, everywhere)
}

// copy copies 100 MB to the edge and back with scp, until the client has gone round.
func (s *stage) copy(ctx context.Context, over route, round []step) error {
	source, target := s.scratch.Path("100MB"), s.scratch.Path("copy")
	want, err := makeFile(source, copySize)
	if err != nil {
		return err
	}
	var there, back transfer
	w, err := s.walk(ctx, round, func(ctx context.Context, wentRound <-chan struct{}) error {
		for {
			for _, way := range []struct {
				*transfer
				from, to string
			}{{&there, source, over.host + ":" + target}, {&back, over.host + ":" + source, target}} {
				if err := os.RemoveAll(target); err != nil {
					return err
				}
				err := way.watch(target, func() error {
					_, err := s.run(ctx, s.net.Client, "scp", "-F", s.scratch.Path("ssh_config"), way.from, way.to)
					return err
				})
				if err != nil {
					return err
				}
				if got, err := sumFile(target); err != nil || got != want {
					return fmt.Errorf("%s is not what was sent (%v)", target, err)
				}
			}
			if closed(wentRound) {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	s.add(there.result("OpenSSH: scp of 100 MB to the edge", over, w), back.result("OpenSSH: scp of 100 MB from the edge", over, w))
	return nil
}
