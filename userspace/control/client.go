// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Client asks the daemon on one control socket.
type Client struct {
	path string
	http http.Client
}

// NewClient prepares to ask the daemon at path; nothing is opened yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Timeout = time.Minute
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if err := checkPath(path); err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	return c
}

// Status asks what the daemon does. ErrNotRunning where none answers.
func (c *Client) Status(ctx context.Context) (Status, error) {
	items, err := get[Status](ctx, c, "status", KindStatus)
	if err != nil {
		return Status{}, err
	}
	if len(items) != 1 {
		return Status{}, fmt.Errorf("the daemon on %s answered %d states instead of one: is it of another version?", c.path, len(items))
	}
	return items[0], nil
}

// Sessions asks for every confirmed session. ErrNotRunning where no daemon answers.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	return get[Session](ctx, c, "sessions", KindSession)
}

// Counters asks for all counters. ErrNotRunning where no daemon answers.
func (c *Client) Counters(ctx context.Context) ([]Counter, error) {
	return get[Counter](ctx, c, "stats", KindCounter)
}

func get[T any](ctx context.Context, c *Client, what, kind string) ([]T, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://xdp-roam/v1/"+what, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nothing answers on %s", ErrNotRunning, c.path)
	case errors.Is(err, ErrPathTooLong):
		return nil, checkPath(c.path)
	case err != nil:
		return nil, fmt.Errorf("cannot ask the daemon on %s: %w", c.path, cause(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the daemon on %s answered %q for %s: is it of another version?", c.path, response.Status, what)
	}
	var document Document[T]
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		return nil, fmt.Errorf("the daemon on %s answered what is no document: %w", c.path, err)
	}
	if document.APIVersion != APIVersion || document.Kind != kind {
		return nil, fmt.Errorf("the daemon on %s speaks %s %s, this command %s %s: use the same version of both",
			c.path, document.APIVersion, document.Kind, APIVersion, kind)
	}
	return document.Items, nil
}

// cause drops the wrapping that speaks of an http:// address that does not exist.
func cause(err error) error {
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}
