// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// numbered makes sessions whose ids count from 0; n has service n%7, worker n%3 and
// n moves, the last one n seconds after start.
func numbered(count int, start time.Time) []Session {
	sessions := make([]Session, count)
	for n := range sessions {
		s := exampleSession(uint64(n))
		s.ID, s.CurrentID = wire.ID{byte(n >> 8), byte(n)}, wire.ID{0xff, byte(n >> 8), byte(n)}
		s.State, s.PeerName, s.Service, s.Owner, s.Moves = StateOpen, []string{"alice", "bob", ""}[n%3], uint16(n%7), n%3, uint64(n)
		s.Started, s.LastMove = start.Add(time.Duration(count-n)*time.Second), start.Add(time.Duration(n)*time.Second)
		if n == 0 {
			s.State, s.LastMove = "closing", time.Time{}
		}
		sessions[n] = s
	}
	return sessions
}

func TestSessionQuery(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sessions := numbered(1000, start)
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{sessions: sessions})
	key, _ := sessions[5].PeerKey.MarshalText()
	number := func(s Session) int { return int(s.ID[0])<<8 | int(s.ID[1]) }
	for name, c := range map[string]struct {
		query SessionQuery
		want  func(n int) bool
		order func(a, b int) int // nil: as they count, the last first
		limit int
	}{
		"all that are open":      {SessionQuery{}, func(n int) bool { return n > 0 }, nil, 0},
		"closing":                {SessionQuery{States: []string{"closing"}}, func(n int) bool { return n == 0 }, nil, 0},
		"in any state":           {SessionQuery{States: []string{StateAll}}, func(int) bool { return true }, nil, 0},
		"of two services":        {SessionQuery{Services: []uint16{2, 5}}, func(n int) bool { return n%7 == 2 || n%7 == 5 }, nil, 0},
		"of a worker":            {SessionQuery{Workers: []int{2}}, func(n int) bool { return n%3 == 2 }, nil, 0},
		"of a peer":              {SessionQuery{Peers: []string{"bob"}}, func(n int) bool { return n%3 == 1 }, nil, 0},
		"of a key":               {SessionQuery{Peers: []string{string(key)}}, func(n int) bool { return sessions[n].PeerKey == sessions[5].PeerKey }, nil, 0},
		"that moved":             {SessionQuery{MovedSince: start.Add(990 * time.Second)}, func(n int) bool { return n >= 990 }, nil, 0},
		"by the first id":        {SessionQuery{IDs: []string{"003"}}, func(n int) bool { return n > 0 && n>>4 == 3 }, nil, 0},
		"by the id in use":       {SessionQuery{IDs: []string{"ff0203"}}, func(n int) bool { return n == 0x203 }, nil, 0},
		"two conditions":         {SessionQuery{Workers: []int{0}, Services: []uint16{0}}, func(n int) bool { return n > 0 && n%21 == 0 }, nil, 0},
		"by moves":               {SessionQuery{Sort: "moves"}, func(n int) bool { return n > 0 }, func(a, b int) int { return b - a }, 0},
		"by moves, the last ten": {SessionQuery{Sort: "moves", Reverse: true, Limit: 10}, func(n int) bool { return n > 0 }, func(a, b int) int { return a - b }, 10},
		"by the last move":       {SessionQuery{Sort: "last-move", Limit: 3}, func(n int) bool { return n > 0 }, func(a, b int) int { return b - a }, 3},
		"by id":                  {SessionQuery{Sort: "id", Limit: 999}, func(n int) bool { return n > 0 }, func(a, b int) int { return a - b }, 999},
		"by service":             {SessionQuery{Sort: "service"}, func(n int) bool { return n > 0 }, func(a, b int) int { return 10000*(a%7-b%7) + a - b }, 0},
		"by remote address": {SessionQuery{Sort: "remote"}, func(n int) bool { return n > 0 }, func(a, b int) int {
			return strings.Compare(remoteKey(&sessions[a]).text, remoteKey(&sessions[b]).text)
		}, 0},
		"unsorted": {SessionQuery{Sort: SortNone, Limit: 20}, func(n int) bool { return n > 0 }, func(a, b int) int { return a - b }, 20},
	} {
		var want []int
		for n := range sessions {
			if c.want(n) {
				want = append(want, n)
			}
		}
		if c.order == nil {
			c.order = func(a, b int) int { return b - a }
		}
		slices.SortStableFunc(want, c.order)
		if c.limit > 0 {
			want = want[:c.limit]
		}
		listed, err := NewClient(path).Sessions(t.Context(), c.query)
		var have []int
		for _, s := range listed {
			have = append(have, number(s))
		}
		if err != nil || !slices.Equal(want, have) {
			t.Errorf("%s: %v\n%v\nwant\n%v", name, err, have, want)
		}
	}
	for _, order := range append(SessionSorts, SortNone) {
		if listed, err := NewClient(path).Sessions(t.Context(), SessionQuery{Sort: order}); err != nil || len(listed) != 999 {
			t.Errorf("by %s: %d sessions, %v", order, len(listed), err)
		}
	}
}

func TestBadQueries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{})
	for _, q := range []SessionQuery{{IDs: []string{"xyz"}}, {IDs: []string{""}}, {States: []string{"gone"}}, {Sort: "colour"}, {Limit: -1}} {
		if _, err := NewClient(path).Sessions(t.Context(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, text := range []string{"service=99999", "worker=x", "moved_since=now", "reverse=maybe", "colour=red", "limit=-1"} {
		recorder := httptest.NewRecorder()
		NewHandler(fixed{}).ServeHTTP(recorder, httptest.NewRequest("GET", "/v1/sessions?"+text, nil))
		if recorder.Code != 400 || !strings.Contains(recorder.Body.String(), "bad query") {
			t.Errorf("%s: %d %s", text, recorder.Code, recorder.Body)
		}
	}
}

// To whoever asks for no binary form, a list is a document, also an empty one.
func TestSessionDocument(t *testing.T) {
	for _, sessions := range [][]Session{numbered(3, time.Unix(1e9, 0)), nil} {
		recorder := httptest.NewRecorder()
		NewHandler(fixed{sessions: sessions}).ServeHTTP(recorder, httptest.NewRequest("GET", "/v1/sessions?state=all&sort=id", nil))
		var document Document[Session]
		if err := json.Unmarshal(recorder.Body.Bytes(), &document); err != nil || document.APIVersion != APIVersion ||
			document.Kind != KindSession || document.Items == nil || len(document.Items) != len(sessions) {
			t.Errorf("%d sessions: %v\n%s", len(sessions), err, recorder.Body)
		}
	}
}

func TestDetails(t *testing.T) {
	sessions := numbered(600, time.Unix(1e9, 0))
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{sessions: sessions})
	client := NewClient(path)
	found, err := client.Details(t.Context(), hex.EncodeToString(sessions[258].ID[:]))
	if err != nil || len(found) != 1 || found[0].Moves != 258 || found[0].IDs[0] != sessions[258].ID || found[0].Packets["delivered"] != 1 {
		t.Errorf("by a whole id: %+v %v", found, err)
	}
	if found, err := client.Details(t.Context(), "01"); err != nil || len(found) != maxDetails {
		t.Errorf("by what begins 256 ids: %d, %v", len(found), err)
	}
	if found, err := client.Details(t.Context(), "abc"); err != nil || len(found) != 0 {
		t.Errorf("by what begins none: %d, %v", len(found), err)
	}
	if _, err := client.Details(t.Context(), "../status"); !errors.Is(err, ErrQuery) {
		t.Errorf("by what is no id: %v", err)
	}
}

func TestCloseSessions(t *testing.T) {
	sessions := numbered(9, time.Unix(1e9, 0))
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{sessions: sessions})
	client := NewClient(path)
	ids := []wire.ID{sessions[0].ID /* is closing */, sessions[3].ID, sessions[8].ID, {1: 77} /* is none */}
	closed, err := client.CloseSessions(t.Context(), ids, "why")
	if err != nil || len(closed) != 2 || closed[0].ID != sessions[3].ID || closed[1].ID != sessions[8].ID {
		t.Errorf("closed %+v %v", closed, err)
	}
	if left, err := client.Sessions(t.Context(), SessionQuery{}); err != nil || len(left) != 6 {
		t.Errorf("%d are left, %v", len(left), err)
	}
	if _, err := client.CloseSessions(t.Context(), []wire.ID{sessions[1].ID}, ""); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no reason") {
		t.Errorf("what a session says against it: %v", err)
	}
}

// A list that the daemon's end cuts short is an error, and one whose reader had
// enough is none of the daemon's business.
func TestListBreaksOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	server := serve(t, path, fixed{sessions: numbered(60_000, time.Unix(1e9, 0))})
	client, seen := NewClient(path), 0
	err := client.EachSession(t.Context(), SessionQuery{}, func(*Session) error {
		if seen++; seen == 1 {
			server.Close()
		}
		return nil
	})
	if !errors.Is(err, ErrNotRunning) || seen == 59_999 {
		t.Errorf("after %d sessions: %v", seen, err)
	}
	enough := errors.New("enough")
	serve(t, path, fixed{sessions: numbered(60_000, time.Unix(1e9, 0))})
	if err := NewClient(path).EachSession(t.Context(), SessionQuery{}, func(*Session) error { return enough }); err != enough {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewClient(path).EachSession(ctx, SessionQuery{}, func(*Session) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
