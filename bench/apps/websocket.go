// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// startWebSocket serves WebSockets at the edge that send back what comes.
func (s *stage) startWebSocket(ctx context.Context) error {
	var listener net.Listener
	err := s.net.Edge.Do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", portWebSocket))
		return err
	})
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(ctx)
			if err != nil || c.Write(ctx, kind, message) != nil {
				return
			}
		}
	})}
	go func() { _ = server.Serve(listener) }()
	s.closers = append(s.closers, server.Close)
	return nil
}

// webSocket is one connection that lives as long as the client walks.
type webSocket struct {
	*meter
	messages int
}

func (ws *webSocket) use(ctx context.Context, s *stage, over route, wentRound <-chan struct{}) error {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
		err = s.net.Client.Do(func() (err error) {
			conn, err = net.Dial("tcp", over.addrPort(portWebSocket).String())
			return err
		})
		return conn, err
	}}
	c, _, err := websocket.Dial(ctx, "ws://"+serverName+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	defer c.CloseNow()
	read := make(chan error, 1)
	go func() {
		read <- ws.read(ctx, c)
	}()
	tick := time.NewTicker(keystrokes)
	defer tick.Stop()
	for !closed(wentRound) {
		select {
		case <-tick.C:
		case err := <-read:
			return err
		}
		ws.messages++
		if err := c.Write(ctx, websocket.MessageText, fmt.Append(nil, ws.messages)); err != nil {
			return fmt.Errorf("WebSocket: %w", err)
		}
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("end")); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	return <-read
}

// read takes the echoes until the one of "end"; they must be whole and in order.
func (ws *webSocket) read(ctx context.Context, c *websocket.Conn) error {
	for i := 1; ; i++ {
		_, message, err := c.Read(ctx)
		if err != nil {
			return fmt.Errorf("WebSocket: %w", err)
		}
		if string(message) == "end" {
			return nil
		}
		if want := fmt.Sprint(i); string(message) != want {
			return errors.New("WebSocket: " + string(message) + " came instead of " + want)
		}
		ws.alive(len(message))
	}
}
