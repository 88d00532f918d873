// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// topKeys are the orders that a key chooses.
var topKeys = map[string]string{
	"m": "moves", "l": "last-move", "h": "last-heard", "b": "bytes", "p": "packets", "t": "rtt", "a": "alarms", "s": "started",
}

const topHelp = "q quit  space pause  r reverse  +/- interval  by: m moves  l last move  h heard  b bytes  p packets  t rtt  a alarms  s started"

// topModel is the live screen: messages in, a picture out. What it asks the daemon
// goes through sample, so that a test needs none.
type topModel struct {
	env    *env
	ctx    context.Context
	sample func(context.Context, control.SessionQuery) (topSample, error)

	query         control.SessionQuery
	interval      time.Duration
	width, height int
	paused        bool
	before, now   topSample
	err           error // why the last look failed
}

// topLooked is the message that a look is done.
type topLooked struct {
	sample topSample
	err    error
}

// topTick is the message that it is time for the next one.
type topTick struct{}

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.look() }

// look asks for what the screen is to show now: the answer is made beside Update,
// which may change the question meanwhile.
func (m *topModel) look() tea.Cmd {
	query := m.query
	return func() tea.Msg {
		sample, err := m.sample(m.ctx, query)
		return topLooked{sample, err}
	}
}

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.query.Limit = max(m.height, 1)
	case topLooked:
		m.err = msg.err
		if msg.err == nil && !m.paused {
			m.before, m.now = m.now, msg.sample
		}
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return topTick{} })
	case topTick:
		return m, m.look()
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	}
	return m, nil
}

func (m *topModel) key(key string) tea.Cmd {
	switch key {
	case "q", "esc", "ctrl+c":
		return tea.Quit
	case "space":
		m.paused = !m.paused
	case "r":
		m.query.Reverse = !m.query.Reverse
	case "+", "=":
		m.interval = min(2*m.interval, time.Minute)
	case "-":
		m.interval = max(m.interval/2, minInterval)
	default:
		if order := topKeys[key]; order != "" {
			m.query.Sort = order
		}
	}
	return nil
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	view := tea.NewView(strings.Join(m.lines(), "\n"))
	view.AltScreen = true
	return view
}

// lines are those of the screen: as many as it has, none too long.
func (m *topModel) lines() []string {
	var lines []string
	switch {
	case !m.now.at.IsZero():
		order := m.query.Sort
		if m.query.Reverse {
			order += ", reversed"
		}
		lines = strings.Split(strings.TrimSuffix(topPage(m.env, m.now, compareSamples(m.before, m.now), order), "\n"), "\n")
	case m.err == nil:
		lines = []string{"asking the daemon ..."}
	}
	foot := topHelp
	switch {
	case m.err != nil:
		foot = m.env.red(m.env.stdout, m.err.Error())
	case m.paused:
		foot = "paused: space goes on"
	}
	if m.height > 0 {
		lines = slices.Clone(lines[:min(len(lines), m.height-1)])
		for len(lines) < m.height-1 {
			lines = append(lines, "")
		}
	}
	lines = append(lines, foot)
	for i, line := range lines {
		if m.width > 0 {
			lines[i] = cut(line, m.width)
		}
	}
	return lines
}
