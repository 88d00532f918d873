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
	"net/url"
	"slices"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Client asks the daemon on one control socket.
type Client struct {
	path string
	http http.Client
}

// NewClient prepares to ask the daemon at path; nothing is opened yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
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

// TakeSocketProgram asks the daemon to take the program that is offered for its sockets.
// ErrNotRunning where none answers, ErrRefused where it says why not.
func (c *Client) TakeSocketProgram(ctx context.Context) error {
	_, err := call[Status](ctx, c, http.MethodPost, "socket-program/take", KindStatus, nil)
	return err
}

// Sessions asks for the sessions that q wants, all at once in memory; see
// EachSession. ErrNotRunning where no daemon answers.
func (c *Client) Sessions(ctx context.Context, q SessionQuery) (sessions []Session, err error) {
	err = c.EachSession(ctx, q, func(s *Session) error {
		one := *s
		one.Candidates = slices.Clone(s.Candidates)
		sessions = append(sessions, one)
		return nil
	})
	return sessions, err
}

// EachSession calls f for the sessions that q wants, in its order, as they come
// from the daemon, until f fails. What f is given is valid until it returns.
// ErrNotRunning where no daemon answers, or where it ends before the list does.
func (c *Client) EachSession(ctx context.Context, q SessionQuery, f func(*Session) error) error {
	if err := q.Check(); err != nil {
		return err
	}
	response, err := c.ask(ctx, http.MethodGet, "sessions?"+q.values().Encode(), typeBinary, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return c.follow(response, typeBinary, func(body io.Reader) error { return readSessions(body, f) })
}

// Details asks for all that is known of the sessions one of whose ids begins so, at
// most ten of them. ErrNotRunning where no daemon answers.
func (c *Client) Details(ctx context.Context, id string) ([]Detail, error) {
	if err := (&SessionQuery{IDs: []string{id}}).Check(); err != nil {
		return nil, err
	}
	return get[Detail](ctx, c, "sessions/"+id, KindSession)
}

// closeBatch is how many ids fit into one request.
const closeBatch = 10_000

// CloseSessions closes those sessions that are still open, tells their clients
// why, and returns what they were. ErrNotRunning where no daemon answers.
func (c *Client) CloseSessions(ctx context.Context, ids []wire.ID, reason string) (closed []Session, err error) {
	for batch := range slices.Chunk(ids, closeBatch) {
		done, err := call[Session](ctx, c, http.MethodPost, "sessions/close", KindSession, CloseRequest{IDs: batch, Reason: reason})
		closed = append(closed, done...)
		if err != nil {
			return closed, err
		}
	}
	return closed, nil
}

// Counters asks for all counters. ErrNotRunning where no daemon answers.
func (c *Client) Counters(ctx context.Context) ([]Counter, error) {
	return get[Counter](ctx, c, "stats", KindCounter)
}

// Workers asks what each worker has done. ErrNotRunning where no daemon answers.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	return get[Worker](ctx, c, "workers", KindWorker)
}

// Events calls f for the events that q wants, as the daemon tells of them, until f
// fails or, with q.Follow, ctx ends. ErrNotRunning where no daemon answers, or where
// it ends meanwhile.
func (c *Client) Events(ctx context.Context, q EventQuery, f func(Event) error) error {
	if err := q.Check(); err != nil {
		return err
	}
	response, err := c.ask(ctx, http.MethodGet, "events?"+q.values().Encode(), typeLines, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return c.follow(response, typeLines, func(body io.Reader) error { return readLines(body, f) })
}

func get[T any](ctx context.Context, c *Client, what, kind string) ([]T, error) {
	return call[T](ctx, c, http.MethodGet, what, kind, nil)
}

// askTimeout bounds a request whose answer is one document.
const askTimeout = time.Minute

// call makes one request, with a body where it is not nil, and returns the items
// of the document that answers it.
func call[T any](ctx context.Context, c *Client, method, what, kind string, body any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	response, err := c.ask(ctx, method, what, typeJSON, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
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

// ask makes one request and returns an answer that is not a refusal. The caller
// closes its body.
func (c *Client) ask(ctx context.Context, method, what, accept string, body any) (*http.Response, error) {
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
	request.Header.Set("Accept", accept)
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nothing answers on %s", ErrNotRunning, c.path)
	case errors.Is(err, ErrPathTooLong):
		return nil, checkPath(c.path)
	case err != nil:
		return nil, fmt.Errorf("cannot ask the daemon on %s: %w", c.path, cause(err))
	case response.StatusCode == http.StatusOK:
		return response, nil
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusServiceUnavailable:
		return nil, fmt.Errorf("%w: the one on %s", ErrEnding, c.path)
	case http.StatusConflict:
		reason, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrRefused, bytes.TrimSpace(reason)), err)
	case http.StatusBadRequest:
		reason, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
		return nil, errors.Join(fmt.Errorf("the daemon on %s, which may be of another version, does not understand this: %s",
			c.path, bytes.TrimSpace(reason)), err)
	}
	return nil, fmt.Errorf("the daemon on %s answered %q for %s: is it of another version?", c.path, response.Status, what)
}

// follow has read take in a long answer, which must be of the type asked for. One
// that breaks off means that the daemon has ended.
func (c *Client) follow(response *http.Response, kind string, read func(io.Reader) error) error {
	if have := response.Header.Get("Content-Type"); have != kind {
		return fmt.Errorf("the daemon on %s answers with %s, not %s: use the same version of both", c.path, have, kind)
	}
	err := read(response.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w: the one on %s ended in the middle of its answer", ErrNotRunning, c.path)
	}
	return err
}

// cause drops the wrapping that speaks of an http:// address that does not exist.
func cause(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}
