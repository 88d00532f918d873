// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

const (
	rulesFile     = root + "/packaging/prometheus/xdp-roam.rules.yml"
	rulesTest     = root + "/packaging/prometheus/xdp-roam.rules.test.yml"
	dashboardFile = root + "/packaging/grafana/xdp-roam.json"
)

// need skips, or fails in CI, where a program is not installed.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testutil.SkipOrFail(t, "needs "+program+" (Debian: apt install "+pkg+")")
	}
}

// The rules are right, and each alert comes when it should and only then.
func TestAlertRules(t *testing.T) {
	need(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(rulesTest)
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts: the test looks at the wrong place", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(string(tests), `alertname="`+string(alert[1])+`"`) {
			t.Errorf("no test has %s come", alert[1])
		}
	}
	for _, word := range []string{"summary:", "description:", "severity:"} {
		if n := strings.Count(string(rules), word); n != len(alerts) {
			t.Errorf("%d alerts have %d times %q", len(alerts), n, word)
		}
	}
}

// prometheus is a Prometheus that scrapes the edge from the client's host.
type prometheus struct {
	b      *labBench
	client *http.Client
}

const metricsToken = "0123456789abcdef0123456789abcdef"

func (b *labBench) startPrometheus() *prometheus {
	b.t.Helper()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		b.t.Fatal(err)
	}
	configuration := fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: xdp-roam
    authorization: {credentials_file: %q}
    static_configs: [{targets: ["%v:9626"]}]
`, rules, b.path("token"), edgeAddr)
	if err := os.WriteFile(b.path("prometheus.yml"), []byte(configuration), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("prometheus", "--config.file", b.path("prometheus.yml"), "--storage.tsdb.path", b.path("tsdb"), "--web.listen-address", "127.0.0.1:9090")
	b.startProgram(b.client, cmd)
	p := &prometheus{b, httpIn(b.client)}
	until(b.t, "Prometheus is ready", func() bool {
		r, err := p.client.Get("http://127.0.0.1:9090/-/ready")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return p
}

// httpIn is an HTTP client in a namespace.
func httpIn(n *lab.Namespace) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = n.Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}}
}

// get asks Prometheus' API and decodes its data.
func (p *prometheus) get(path string, query url.Values, into any) error {
	r, err := p.client.Get("http://127.0.0.1:9090/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return nil
}

// query returns how many series an expression has, and the value of the first.
func (p *prometheus) query(expr string) (series int, value float64, err error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get("query", url.Values{"query": {expr}}, &data); err != nil || len(data.Result) == 0 {
		return 0, 0, err
	}
	value, err = strconv.ParseFloat(fmt.Sprint(data.Result[0].Value[1]), 64)
	return len(data.Result), value, err
}

// metricName finds what of an expression must be the name of a metric.
var metricName = regexp.MustCompile(`\b(?:xdp_roam|process|go)_\w+|\bup\b`)

// checkNames fails the test if an expression asks for what nobody exports.
func checkNames(t *testing.T, where, expr string, known []string) {
	t.Helper()
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("%s: there is no %s: %s", where, name, expr)
		}
	}
}

// A real Prometheus scrapes a real edge, over a network and so with a token; what it
// knows then is what the edge says itself, and answers every query of the dashboard.
func TestPrometheus(t *testing.T) {
	need(t, "prometheus", "prometheus")
	need(t, "promtool", "prometheus")
	b := newLabBench(t)
	if err := os.WriteFile(b.path("token"), []byte(metricsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.client.ReceiveXDP("client0"); err != nil {
		t.Fatal(err)
	}
	b.startEdge("--mode", "xdp", "--interface", "edge0", "--metrics", edgeAddr.String()+":9626", "--metrics-token-file", b.path("token"))
	nat := b.newRebinder(0)
	program := b.through(nat, 5007)
	ask(t, program, "before")
	prom := b.startPrometheus()
	until(t, "the edge is scraped twice", func() bool {
		_, n, err := prom.query(`count_over_time(xdp_roam_sessions[1m])`)
		return err == nil && n >= 2
	})
	nat.rebind()
	ask(t, program, "after")

	for expr, want := range map[string]float64{
		`up{job="xdp-roam"}`:                                                         1,
		`xdp_roam_sessions`:                                                          1,
		`xdp_roam_roams_started_total`:                                               1,
		`xdp_roam_roams_committed_total`:                                             1,
		`xdp_roam_roam_switch_seconds_count`:                                         1,
		`xdp_roam_roam_switch_seconds_bucket{le="+Inf"}`:                             1,
		`xdp_roam_handshakes_total{outcome="accepted"}`:                              1,
		`xdp_roam_service_sessions{service="7"}`:                                     1,
		`xdp_roam_authorized_clients`:                                                1,
		`xdp_roam_interface_degraded{interface="edge0",mode="native"}`:               0,
		`xdp_roam_edge_info{edge="default",mode="xdp"}`:                              1,
		`xdp_roam_table_slots`:                                                       4096,
		`xdp_roam_table_capacity`:                                                    3072,
		`count(xdp_roam_build_info{version!="",goversion=~"go1.+"})`:                 1,
		`sum(xdp_roam_packets_total{stage="xdp",verdict="pass",reason="init"}) >= 1`: 1,
	} {
		until(t, fmt.Sprintf("%s = %v", expr, want), func() bool {
			series, value, err := prom.query(expr)
			return err == nil && series == 1 && value == want
		})
	}
	for _, c := range items[control.Counter](b, "stats") {
		if c.Verdict == "event" || c.Stage == "events" {
			continue
		}
		expr := fmt.Sprintf(`xdp_roam_packets_total{stage=%q,verdict=%q,reason=%q}`, c.Stage, c.Verdict, c.Reason)
		until(t, fmt.Sprintf("%s >= %d", expr, c.Value), func() bool {
			series, value, err := prom.query(expr)
			return err == nil && series == 1 && value >= float64(c.Value)
		})
	}
	t.Run("names", func(t *testing.T) { checkMetrics(t, b) })
	t.Run("token", func(t *testing.T) { checkToken(t, b) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, prom) })
	t.Run("rules", func(t *testing.T) { checkRules(t, prom) })
}

// scrape asks the edge as Prometheus does.
func (b *labBench) scrape(path, authorization string) (status int, text string) {
	b.t.Helper()
	request, err := http.NewRequest("GET", "http://"+edgeAddr.String()+":9626"+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	r, err := httpIn(b.client).Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// The names and the help keep to Prometheus' rules, and the control socket says the same.
func checkMetrics(t *testing.T, b *labBench) {
	_, text := b.scrape("/metrics", "Bearer "+metricsToken)
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	names := func(text string) []string {
		return regexp.MustCompile(`(?m)^# TYPE xdp_roam_\w+ \w+$`).FindAllString(text, -1)
	}
	local := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.path("control.sock"))
	}}}
	r, err := local.Get("http://edge/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	socket, _ := io.ReadAll(r.Body)
	if got, want := names(string(socket)), names(text); len(want) < 40 || !slices.Equal(got, want) {
		t.Errorf("over TCP %q, on the control socket %q", want, got)
	}
}

func checkToken(t *testing.T, b *labBench) {
	for authorization, want := range map[string]int{
		"": 401, "Bearer wrong": 401, "Basic " + metricsToken: 401, "Bearer " + metricsToken: 200,
	} {
		for _, path := range []string{"/metrics", "/v1/status", "/v1/sessions"} {
			if status, text := b.scrape(path, authorization); status != want || want == 401 && strings.Contains(text, "alice") {
				t.Errorf("%s with %q: status %d, want %d", path, authorization, status, want)
			}
		}
	}
}

func checkDashboard(t *testing.T, prom *prometheus) {
	var known []string
	if err := prom.get("label/__name__/values", nil, &known); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID          int
			Type, Title string
			Description string
			Targets     []struct{ Expr string }
		}
		Templating struct{ List []struct{ Definition string } }
		Annot      struct{ List []struct{ Expr string } } `json:"annotations"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" {
			checkNames(t, "variable", v.Definition, known)
		}
	}
	for _, a := range dashboard.Annot.List {
		checkNames(t, "annotation", a.Expr, known)
	}
	ids, queries := make(map[int]bool), 0
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] {
			t.Errorf("two panels have the id %d", panel.ID)
		}
		ids[panel.ID] = true
		if panel.Type != "row" && (panel.Description == "" || len(panel.Targets) == 0) {
			t.Errorf("%q has no description or no query", panel.Title)
		}
		for _, target := range panel.Targets {
			queries++
			checkNames(t, panel.Title, target.Expr, known)
			expr := strings.NewReplacer("$instance", ".+", "$__rate_interval", "30s", "$__range", "1h").Replace(target.Expr)
			if series, _, err := prom.query(expr); err != nil || series == 0 {
				t.Errorf("%s: %d series, %v: %s", panel.Title, series, err, expr)
			}
		}
	}
	if queries < 30 {
		t.Errorf("%d queries: the test looks at the wrong place", queries)
	}
}

// checkRules sees that Prometheus has evaluated each rule without error, that the
// metrics of each exist, and that an edge which is well raises none.
func checkRules(t *testing.T, prom *prometheus) {
	var known []string
	if err := prom.get("label/__name__/values", nil, &known); err != nil {
		t.Fatal(err)
	}
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, State string }
		}
	}
	until(t, "all rules are evaluated, and none is raised", func() bool {
		data.Groups = nil
		if err := prom.get("rules", nil, &data); err != nil || len(data.Groups) != 1 {
			return false
		}
		for _, rule := range data.Groups[0].Rules {
			// One scrape that a busy machine was late with raises the first of them until the next.
			if rule.Health == "unknown" || rule.State == "pending" {
				return false
			}
		}
		return true
	})
	for _, rule := range data.Groups[0].Rules {
		checkNames(t, rule.Name, rule.Query, known)
		if rule.Health != "ok" || rule.State != "inactive" {
			t.Errorf("%s is %s, %s %s", rule.Name, rule.State, rule.Health, rule.LastError)
		}
	}
}

// A wrong address for metrics ends `run` with what to do about it.
func TestMetricsAddressInUse(t *testing.T) {
	b := newLabBench(t)
	var taken net.Listener
	if err := b.edge.Do(func() (err error) {
		taken, err = net.Listen("tcp", "127.0.0.1:9626")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"--page":                   {exitConflict, "choose another port"},
		"--metrics 127.0.0.1:9626": {exitConflict, "address already in use"},
		"--metrics 192.0.2.77:1":   {exitUsage, "token_file"},
	} {
		code, _, stderr := b.run(append(b.edgeArgs("--mode", "none"), strings.Fields(args)...)...)
		if code != want.code || !strings.Contains(stderr, want.text) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s", args, code, want.code, want.text, stderr)
		}
	}
	b.nothingLeft()
}
