// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	return c
}

// Status asks what the daemon does. ErrNotRunning where none answers.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.one(get[Status](ctx, c, "status", KindStatus))
}

func (c *Client) one(items []Status, err error) (Status, error) {
	if err != nil {
		return Status{}, err
	}
	if len(items) != 1 {
		return Status{}, fmt.Errorf("the daemon on %s answered %d states instead of one: is it of another version?", c.path, len(items))
	}
	return items[0], nil
}

// Drain asks the daemon to take no new sessions and to end with the last one, or
// after timeout if that is not 0. It returns what the daemon does then.
// ErrNotRunning where none answers.
func (c *Client) Drain(ctx context.Context, timeout time.Duration) (Status, error) {
	return c.one(call[Status](ctx, c, http.MethodPost, "drain", KindStatus, DrainRequest{Timeout: int64(timeout)}))
}

// RotateState asks for the next generation of the state secret and returns all
// that are in use. ErrNotRunning where no daemon answers, ErrRefused where it
// says why not.
func (c *Client) RotateState(ctx context.Context) ([]Generation, error) {
	return call[Generation](ctx, c, http.MethodPost, "state/rotate", KindGeneration, nil)
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
	return call[T](ctx, c, http.MethodGet, what, kind, nil)
}

// call makes one request, with a body where it is not nil, and returns the items
// of the document that answers it.
func call[T any](ctx context.Context, c *Client, method, what, kind string, body any) ([]T, error) {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://xdp-roam/v1/"+what, &text)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nothing answers on %s", ErrNotRunning, c.path)
	case err != nil:
		return nil, fmt.Errorf("cannot ask the daemon on %s: %w", c.path, cause(err))
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusConflict {
		reason, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrRefused, bytes.TrimSpace(reason)), err)
	}
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
