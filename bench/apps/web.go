// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// fileSize is that of what is downloaded.
const fileSize = 100_000_000

// startWeb starts nginx at the edge.
func (s *stage) startWeb(ctx context.Context) error {
	if err := os.Mkdir(s.scratch.Path("www"), 0o755); err != nil {
		return err
	}
	for name, size := range map[string]int64{"file": fileSize, "page": 4000} {
		if _, err := makeFile(s.scratch.Path("www/"+name), size); err != nil {
			return err
		}
	}
	return s.server(ctx, portWeb, fmt.Sprintf(`
daemon off;
user root;
worker_processes 1;
pid SCRATCH/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
	access_log off;
	keepalive_requests 100000;
	client_body_temp_path SCRATCH/nginx-body;
	proxy_temp_path SCRATCH/nginx-proxy;
	fastcgi_temp_path SCRATCH/nginx-fastcgi;
	uwsgi_temp_path SCRATCH/nginx-uwsgi;
	scgi_temp_path SCRATCH/nginx-scgi;
	server {
		listen %[1]d;
		listen [::]:%[1]d;
		root SCRATCH/www;
		location /slow/ { # slow at its source: nothing waits on the way
			alias SCRATCH/www/;
			limit_rate 1m;
		}
	}
}
`, portWeb), "nginx", "-e", "stderr", "-p", s.scratch.Dir, "-c", s.scratch.Path(fmt.Sprintf("%d.conf", portWeb)))
}

// tryDownloads fetches a file over and over, until the client has been everywhere.
func tryDownloads(ctx context.Context, s *stage) error {
	return s.download(ctx, overRoam, everywhere)
}

// download fetches a file over and over, until the client has gone round.
func (s *stage) download(ctx context.Context, over route, round []step) error {
	want, err := sumFile(s.scratch.Path("www/file"))
	if err != nil {
		return err
	}
	var downloads transfer
	target := s.scratch.Path("download")
	w, err := s.walk(ctx, round, func(ctx context.Context, wentRound <-chan struct{}) error {
		for !closed(wentRound) {
			if err := os.RemoveAll(target); err != nil {
				return err
			}
			err := downloads.watch(target, func() error {
				_, err := s.run(ctx, s.net.Client, "curl", "-sSf", "-o", target, over.url("file"))
				return err
			})
			if err != nil {
				return err
			}
			if got, err := sumFile(target); err != nil || got != want {
				return fmt.Errorf("the download is not the file (%v)", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.add(downloads.result("nginx and curl: downloads of 100 MB", over, w))
	return nil
}

// keepAlive asks for a page ten times a second over one connection, until wentRound
// is closed.
type keepAlive struct {
	requests int
	slowest  time.Duration
}

func (k *keepAlive) use(ctx context.Context, s *stage, over route, wentRound <-chan struct{}) error {
	// curl takes the URLs that it is given from its input as it reads that: it fetches
	// one after another over one connection, at the rate that is asked for.
	var urls strings.Builder
	const most = 3000
	for range most {
		fmt.Fprintf(&urls, "url = %s\noutput = /dev/null\n", over.url("page"))
	}
	configuration := s.scratch.Path("curl." + over.host)
	if err := os.WriteFile(configuration, []byte(urls.String()), 0o600); err != nil {
		return err
	}
	// Its stdout would be lost in part when it is told to end.
	p, err := s.start(s.net.Client, nil, "curl", "-sSf", "--rate", "36000/h", "-w", `%{stderr}%{num_connects} %{time_total} %{size_download}\n`, "-K", configuration)
	if err != nil {
		return err
	}
	select {
	case <-wentRound:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ended:
		return fmt.Errorf("curl ended under way: %w", p.failure())
	}
	p.stop()
	connections := 0
	for line := range strings.Lines(p.words.all()) {
		if !strings.HasSuffix(line, "\n") {
			break // curl writes a line in pieces, and was told to end between two
		}
		var connects, size int
		var seconds float64
		if _, err := fmt.Sscan(line, &connects, &seconds, &size); err != nil || size != 4000 {
			return fmt.Errorf("curl says %q (%v)", line, err)
		}
		k.requests++
		connections += connects
		k.slowest = max(k.slowest, time.Duration(seconds*float64(time.Second)))
	}
	if connections != 1 || k.requests < 20 {
		return fmt.Errorf("curl made %d connections for %d requests, where one was to carry many", connections, k.requests)
	}
	return nil
}

// slowReader takes half a megabyte a second, and compares what comes with a file.
type slowReader struct {
	meter
	ctx  context.Context
	want []byte
}

func (r *slowReader) Write(p []byte) (int, error) {
	if n := r.total(); !bytes.HasPrefix(r.want[n:], p) {
		return 0, fmt.Errorf("after %d bytes of a slow download others come than the file's", n)
	}
	r.alive(len(p))
	return len(p), sleep(r.ctx, time.Duration(len(p))*time.Second/500_000)
}

// use downloads a file more slowly than anyone would like to wait for, until
// wentRound is closed.
func (r *slowReader) use(ctx context.Context, s *stage, over route, wentRound <-chan struct{}) (err error) {
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	if r.want, err = os.ReadFile(s.scratch.Path("www/file")); err != nil {
		return err
	}
	p, err := s.start(s.net.Client, r, "curl", "-sSfN", over.url("file"))
	if err != nil {
		return err
	}
	select {
	case <-wentRound:
		cancel()
		p.kill()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ended:
		return fmt.Errorf("curl ended under way: %w", p.failure())
	}
}
