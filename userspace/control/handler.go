// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Bounds of the bodies of requests in bytes: of most, and of those that list ids.
const (
	maxRequest = 4096
	maxIDs     = 1 << 20
)

// maxListings is how many lists of sessions are made at a time: each may need
// 64 bytes for every session of the server.
const maxListings = 4

// api answers requests about one source.
type api struct {
	source   Source
	listings chan struct{} // holds a token for each list being made
}

// NewHandler serves the API, /v1/ and what is under it, whatever it is reached by.
// It asks nobody who they are: that is for the socket, or for a handler around it.
func NewHandler(source Source) http.Handler {
	a := &api{source: source, listings: make(chan struct{}, maxListings)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.status)
	mux.HandleFunc("GET /v1/stats", a.stats)
	mux.HandleFunc("GET /v1/workers", a.workers)
	mux.HandleFunc("GET /v1/events", whole(a.events))
	mux.HandleFunc("POST /v1/trace", whole(a.trace)) // it costs each packet something: not for those who may only read
	mux.HandleFunc("POST /v1/drain", a.drain)
	mux.HandleFunc("POST /v1/state/rotate", a.rotateState)
	mux.HandleFunc("POST /v1/socket-program/take", a.takeSocketProgram)
	mux.HandleFunc("GET /v1/sessions", whole(a.sessions))
	mux.HandleFunc("GET /v1/sessions/{id}", whole(a.session))
	mux.HandleFunc("POST /v1/sessions/close", a.closeSessions)
	return mux
}

// whole ends an answer that the daemon's end has cut short like a broken one, since
// a part of a list must not look like all of it.
func whole(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f(w, r)
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (a *api) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, KindStatus, []Status{a.source.Status()})
}

func (a *api) stats(w http.ResponseWriter, _ *http.Request) {
	answer(w, KindCounter, a.source.Counters())
}

func (a *api) workers(w http.ResponseWriter, _ *http.Request) {
	answer(w, KindWorker, a.source.Workers())
}

// events answers with a line for each: their number has no end.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	q, err := parseEventQuery(r.URL.Query())
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", typeLines)
	out := newPatientWriter(w)
	lines := json.NewEncoder(out)
	err = a.source.Events().follow(r.Context(), &q, func(e *Event) error { return lines.Encode(e) }, out.control.Flush)
	if err != nil {
		panic(http.ErrAbortHandler) // as with sessions
	}
}

func (a *api) drain(w http.ResponseWriter, r *http.Request) {
	var request DrainRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request)
	if err != nil || request.Timeout < 0 {
		http.Error(w, "the body is no drain request", http.StatusBadRequest)
		return
	}
	a.source.Drain(time.Duration(request.Timeout))
	a.status(w, r)
}

func (a *api) rotateState(w http.ResponseWriter, _ *http.Request) {
	generations, err := a.source.RotateState()
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, KindGeneration, generations)
}

func (a *api) takeSocketProgram(w http.ResponseWriter, r *http.Request) {
	if err := a.source.TakeSocketProgram(); err != nil {
		refuse(w, err)
		return
	}
	a.status(w, r)
}

func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	q, err := parseSessionQuery(r.URL.Query())
	if err != nil {
		refuse(w, err)
		return
	}
	select {
	case a.listings <- struct{}{}:
		defer func() { <-a.listings }()
	case <-r.Context().Done():
		return
	}
	stream := newSessionStream(w, r)
	err = list(r.Context(), a.source, &q, stream.session)
	if errors.Join(err, stream.end()) != nil {
		// Half a list must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
}

func (a *api) session(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := (&SessionQuery{IDs: []string{id}}).Check(); err != nil {
		refuse(w, err)
		return
	}
	found, err := details(r.Context(), a.source, id)
	if err != nil {
		return // whoever asked is gone, or the daemon is
	}
	answer(w, KindSession, found)
}

func (a *api) closeSessions(w http.ResponseWriter, r *http.Request) {
	var request CloseRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxIDs)).Decode(&request); err != nil {
		http.Error(w, "the body is no request to close sessions", http.StatusBadRequest)
		return
	}
	closed, err := closeSessions(r.Context(), a.source, request)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, KindSession, closed)
}

// refuse says why not: a query that nobody understands, or what the state of the
// server does not allow.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusConflict
	if errors.Is(err, ErrQuery) {
		code = http.StatusBadRequest
	}
	http.Error(w, err.Error(), code)
}

func answer[T any](w http.ResponseWriter, kind string, items []T) {
	w.Header().Set("Content-Type", typeJSON)
	// The status line is out already: a client that went away is its own affair.
	_ = json.NewEncoder(w).Encode(NewDocument(kind, items))
}
