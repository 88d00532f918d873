// SPDX-License-Identifier: Apache-2.0
"use strict";

// The page asks for /metrics again and again, keeps what it needs of each answer, and
// draws the differences. What is shown is text and SVG: nothing that comes is ever HTML.

const EVERY = 1000;      // ms between two looks
const SPAN = 300;        // seconds that the charts show
const RATE = 10;         // seconds that the rates are of
const PATIENCE = 10000;  // ms for an answer

const $ = id => document.getElementById(id);

const looks = [];        // {time, the page's clock in seconds; metrics}, the newest last
const rates = [];        // {time, ...}: what the charts show
let token = sessionStorage.getItem("token") || "";

// parse reads Prometheus' text format: of each name, a list of {labels, value}.
function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!m || !m[1].startsWith("xdp_roam_") && !m[1].startsWith("process_")) continue;
    const labels = {};
    for (const [, name, value] of (m[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
    }
    if (!metrics.has(m[1])) metrics.set(m[1], []);
    metrics.get(m[1]).push({ labels, value: Number(m[3].replace("Inf", "Infinity")) });
  }
  return metrics;
}

// samples are those of a name whose labels match.
function samples(look, name, match = {}) {
  const all = look.metrics.get("xdp_roam_" + name) || [];
  return all.filter(s => Object.keys(match).every(k => s.labels[k] === match[k]));
}

function sum(look, name, match) {
  return samples(look, name, match).reduce((total, s) => total + s.value, 0);
}

// past is the look that rates of now are compared with.
function past() {
  const now = looks[looks.length - 1].time;
  return looks.find(l => now - l.time <= RATE) || looks[0];
}

// perSecond is how fast a counter grows. One that has fallen is another process'.
function perSecond(name, match) {
  const now = looks[looks.length - 1], before = past();
  if (now === before) return 0;
  return Math.max(0, sum(now, name, match) - sum(before, name, match)) / (now.time - before.time);
}

// buckets are the switches since a look, or since the start.
function buckets(now, before) {
  let below = 0;
  const old = new Map(before ? samples(before, "roam_switch_seconds_bucket").map(s => [s.labels.le, s.value]) : []);
  return samples(now, "roam_switch_seconds_bucket").map(s => {
    const upTo = s.value - (old.get(s.labels.le) || 0);
    const b = { bound: s.labels.le === "+Inf" ? Infinity : Number(s.labels.le), n: upTo - below };
    below = upTo;
    return b;
  });
}

// quantile is the time that a part of the switches took at most, as
// histogram_quantile of Prometheus has it; NaN without any.
function quantile(part, list) {
  const rank = part * list.reduce((all, b) => all + b.n, 0);
  let below = 0, bound = 0;
  for (const b of list) {
    if (b.n > 0 && below + b.n >= rank) {
      return b.bound === Infinity ? bound : bound + (b.bound - bound) * (rank - below) / b.n;
    }
    below += b.n;
    bound = b.bound;
  }
  return NaN;
}

// chartRates are what the charts keep of a look. A packet counts once: where it was
// dropped, answered or delivered.
function chartRates(now) {
  const packets = match => perSecond("packets_total", match);
  return {
    time: now.time, sessions: sum(now, "sessions"),
    committed: perSecond("roams_committed_total"), refused: perSecond("roams_refused_total"), reverted: perSecond("roams_reverted_total"),
    deliver: packets({ stage: "server", verdict: "deliver" }), drop: packets({ verdict: "drop" }),
    answer: packets({ verdict: "answer" }) + packets({ verdict: "tx" }),
  };
}

function show() {
  const now = looks[looks.length - 1];
  const info = samples(now, "edge_info")[0].labels, build = samples(now, "build_info")[0].labels;
  const started = now.metrics.get("process_start_time_seconds");
  const facts = [`edge ${info.edge}`, `mode ${info.mode}`, `version ${build.version}`];
  if (started) facts.push(`up ${age(Math.max(0, Date.now() / 1000 - started[0].value))}`);
  $("facts").textContent = facts.join(" · ");
  document.title = `${info.edge} – xdp-roam`;

  const r = chartRates(now);
  rates.push(r);
  while (rates.length > 1 && now.time - rates[0].time > SPAN) rates.shift();

  tile("sessions", exact(r.sessions), `${exact(sum(now, "half_open_sessions"))} half open · ${exact(sum(now, "sessions_opened_total"))} opened`);
  tile("roams", count(r.committed), `${exact(sum(now, "roams_committed_total"))} committed of ${exact(sum(now, "roams_started_total"))}`);
  showSwitches(now);
  tile("packets", count(r.deliver), `${exact(sum(now, "packets_total", { stage: "server", verdict: "deliver" }))} delivered`);
  tile("drops", count(r.drop), `${exact(sum(now, "packets_total", { verdict: "drop" }))} in total`);
  const ids = sum(now, "table_ids"), capacity = sum(now, "table_capacity");
  tile("table", (100 * ids / capacity).toFixed(1) + " %", `${exact(ids)} of ${exact(capacity)} ids`);

  showCharts();
  showTables(now);
  showAlarms(now);
  $("main").hidden = false;
}

function tile(id, text, more) {
  $(id).textContent = text;
  $(id + "-more").textContent = more;
}

// showSwitches prefers those of the charts' time, and has those since the start else.
function showSwitches(now) {
  let list = buckets(now, looks[0]), when = "recently";
  if (list.every(b => b.n === 0)) [list, when] = [buckets(now), "since the start"];
  tile("switch", seconds(quantile(0.5, list)), `99 % within ${seconds(quantile(0.99, list))}, ${when}`);
  bars($("c-switch"), "How long switches took", buckets(now));
}

function showCharts() {
  const times = rates.map(r => r.time), last = rates[rates.length - 1];
  const span = Math.min(SPAN, 60 * Math.max(1, Math.ceil((last.time - times[0]) / 60))); // whole minutes
  const series = (...names) => names.map(([key, name]) => ({ name, values: rates.map(r => r[key]), now: last[key] }));
  lines($("c-sessions"), "Sessions", series(["sessions", "open"]), times, span, 4);
  lines($("c-roams"), "Roams per second", series(["committed", "committed"], ["refused", "refused"], ["reverted", "reverted"]), times, span, 1);
  lines($("c-packets"), "Packets per second", series(["deliver", "delivered"], ["answer", "answered"], ["drop", "dropped"]), times, span, 10);
}

function showTables(now) {
  const drops = samples(now, "packets_total", { verdict: "drop" }).filter(s => s.value > 0)
    .map(s => ({ ...s, rate: perSecond("packets_total", s.labels) }))
    .sort((a, b) => b.rate - a.rate || b.value - a.value).slice(0, 12);
  fill($("t-drops"), drops.map(s => [s.labels.reason, s.labels.stage, count(s.rate), exact(s.value)]), [0, 0, 1, 1], "nothing was dropped");

  const outcomes = samples(now, "handshakes_total");
  fill($("t-handshakes"), outcomes.map(s => [s.labels.outcome.replaceAll("_", " "), count(perSecond("handshakes_total", s.labels)), exact(s.value)]), [0, 1, 1], "none");

  const ports = samples(now, "service_sessions").map(s => s.labels);
  fill($("t-services"), ports.map(p => [
    p.service, exact(sum(now, "service_sessions", p)), exact(sum(now, "service_streams", p)),
    exact(sum(now, "service_sessions_refused_total", p) + sum(now, "service_streams_refused_total", p)),
    exact(sum(now, "service_backend_failures_total", p)),
  ]), [0, 1, 1, 1, 1], "none");

  const interfaces = samples(now, "interface_degraded");
  fill($("t-interfaces"), interfaces.map(s => {
    const name = { interface: s.labels.interface };
    const queues = sum(now, "afxdp_queues", name);
    return [name.interface, s.labels.mode || "–", s.value ? "degraded" : "ok", queues ? `${sum(now, "afxdp_sockets", name)} of ${queues}` : "–"];
  }), [0, 0, 0, 1], "none: packets are steered at the sockets alone");
}

function showAlarms(now) {
  const list = [];
  for (const s of samples(now, "interface_degraded")) {
    if (s.value) list.push(`${s.labels.interface} is degraded: xdp-roam status says why.`);
  }
  if (sum(now, "authorized_keys_stale")) list.push("authorized_keys is wrong; an older list is in force.");
  if (sum(now, "table_ids") > 0.9 * sum(now, "table_capacity")) list.push("The session table is nearly full.");
  if (perSecond("afxdp_dropped_packets_total") > 0) list.push("AF_XDP sockets lose packets: their readers are too slow.");
  if (perSecond("forwarding_alarms_total") > 0) list.push("Someone forwards or replays packets of a session.");
  if (sum(now, "draining")) list.push("Draining: no new sessions are taken.");
  // As it is announced to who cannot see it: only when it is another.
  if ($("alarms").textContent === list.join("")) return;
  $("alarms").replaceChildren(...list.map(text => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

function state(text, kind) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = "state " + kind;
}

// look asks once and shows the answer; it says when to look again.
async function look() {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  let answer;
  try {
    answer = await fetch("metrics", { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 401) {
      ask(token !== "");
      return;
    }
    if (!answer.ok) throw new Error(`the edge says ${answer.status}`);
    const metrics = parse(await answer.text());
    if (!metrics.has("xdp_roam_edge_info")) throw new Error("these are no metrics of an edge");
    looks.push({ time: performance.now() / 1000, metrics });
  } catch (error) {
    state(error.name === "TypeError" ? "no answer" : error.message, "bad");
    setTimeout(look, EVERY);
    return;
  }
  restarted();
  while (looks.length > SPAN * 1000 / EVERY) looks.shift();
  show();
  state(sum(looks[looks.length - 1], "draining") ? "draining" : "live", "good");
  setTimeout(look, EVERY);
}

// restarted forgets what another process has counted.
function restarted() {
  const start = l => (l.metrics.get("process_start_time_seconds") || [{ value: 0 }])[0].value;
  if (looks.length > 1 && start(looks[0]) !== start(looks[looks.length - 1])) looks.splice(0, looks.length - 1);
}

function ask(wrong) {
  token = "";
  sessionStorage.removeItem("token");
  $("main").hidden = true;
  $("ask").hidden = false;
  $("refused").textContent = wrong ? "That is not the token." : "";
  state("locked", "");
  $("token").focus();
}

$("ask").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  $("token").value = "";
  $("ask").hidden = true;
  look();
});

look();
