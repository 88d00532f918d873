// SPDX-License-Identifier: Apache-2.0
"use strict";

// Numbers as people read them, and charts of SVG. Nothing here knows what they mean.

const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// count writes a count or a rate in five characters or so.
function count(n) {
  if (!isFinite(n)) return "–";
  for (const [unit, name] of SI) {
    if (n >= unit * 10 || unit > 1e3 && n >= unit) return trim(n / unit) + " " + name;
  }
  if (Number.isInteger(n)) return String(n);
  return n >= 100 ? n.toFixed(0) : trim(n);
}

function trim(n) {
  return n >= 100 ? n.toFixed(0) : String(Number(n.toPrecision(n < 0.1 ? 1 : n < 10 ? 2 : 3)));
}

// exact writes a whole number with thin spaces.
function exact(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// seconds writes a time.
function seconds(s) {
  if (!isFinite(s)) return "–";
  if (s < 1e-3) return trim(s * 1e6) + " µs";
  if (s < 1) return trim(s * 1e3) + " ms";
  return trim(s) + " s";
}

// age writes how long ago, in its two largest units.
function age(s) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = Math.max(0, units.findIndex(([n]) => s >= n));
  const [n, name] = s < 1 ? units[3] : units[i];
  let text = Math.floor(s / n) + " " + name;
  if (n > 60) text += " " + Math.floor(s % n / units[i + 1][0]) + " " + units[i + 1][1];
  return text;
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...children) {
  const e = document.createElementNS(SVG, name);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  e.append(...children);
  return e;
}

// ceiling is the end of an axis: 1, 2 or 5 times a power of ten, at least n.
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find(m => m * power >= n * 0.999) * power;
}

const H = 180, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;

// broad is how wide a chart is drawn: as it is shown, so that its text keeps its size.
function broad(figure) {
  return Math.max(240, figure.clientWidth);
}

// frame draws what all charts have: lines across with their numbers.
function frame(figure, label, top, write) {
  const W = broad(figure);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    const y = TOP + (H - TOP - BOTTOM) * (1 - part);
    root.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }));
    root.append(svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, write(top * part)));
  }
  return root;
}

// lines draws series over time, each {name, values, now}; times are their seconds,
// span how many of them fit.
function lines(figure, what, series, times, span, floor) {
  const top = ceiling(Math.max(floor, ...series.flatMap(s => s.values)));
  const now = times[times.length - 1], W = broad(figure);
  const x = t => W - RIGHT - (now - t) / span * (W - LEFT - RIGHT);
  const y = v => TOP + (H - TOP - BOTTOM) * (1 - v / top);
  const label = what + ", the last " + age(span) + ". Now: " + series.map(s => s.name + " " + count(s.now)).join(", ") + ".";
  const root = frame(figure, label, top, count);
  for (let m = 0; m * 60 <= span; m += W < 420 && span > 120 ? 2 : 1) {
    const anchor = m === 0 ? "end" : m * 60 === span ? "start" : "middle";
    root.append(svg("text", { x: x(now - m * 60), y: H - 5, "text-anchor": anchor }, m === 0 ? "now" : `−${m} min`));
  }
  series.forEach((s, i) => {
    if (s.values.length === 0) return;
    const points = s.values.map((v, k) => `${x(times[k]).toFixed(1)},${y(v).toFixed(1)}`);
    if (series.length === 1) {
      const ends = [x(times[0]), x(now)].map(e => e.toFixed(1));
      root.append(svg("polygon", { class: "area f" + i, points: `${ends[0]},${y(0)} ${points.join(" ")} ${ends[1]},${y(0)}` }));
    }
    root.append(svg("polyline", { class: "line s" + i, points: points.join(" ") }));
  });
  figure.replaceChildren(root, ...(series.length > 1 ? [legend(series)] : []));
}

function legend(series) {
  const list = document.createElement("div");
  list.className = "legend";
  series.forEach((s, i) => {
    const entry = document.createElement("span");
    const value = document.createElement("b");
    value.textContent = count(s.now);
    entry.append(svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: "f" + i, width: 10, height: 10, rx: 2 })), s.name + " ", value);
    list.append(entry);
  });
  return list;
}

// bars draws a histogram: buckets are {bound, n}, the last bound Infinity.
function bars(figure, what, buckets) {
  const all = buckets.reduce((sum, b) => sum + b.n, 0);
  const top = ceiling(Math.max(1, ...buckets.map(b => b.n)));
  const W = broad(figure), width = (W - LEFT - RIGHT) / buckets.length;
  const y = v => TOP + (H - TOP - BOTTOM) * (1 - v / top);
  const label = what + ": " + (buckets.filter(b => b.n > 0).map(b => `${b.n} of at most ${b.bound === Infinity ? "any time" : seconds(b.bound)}`).join(", ") || "none yet") + ".";
  const root = frame(figure, label, top, count);
  buckets.forEach((b, i) => {
    const x = LEFT + i * width;
    if (b.n > 0) {
      const bar = svg("rect", { class: "f0", x: x + 2, width: width - 4, y: y(b.n), height: y(0) - y(b.n), rx: 2 });
      bar.append(svg("title", {}, `${exact(b.n)} of ${exact(all)}`));
      root.append(bar);
    }
    if (b.bound !== Infinity && i % (W < 420 ? 4 : 2) === 1) root.append(svg("text", { x: x + width, y: H - 5, "text-anchor": "middle" }, seconds(b.bound)));
  });
  figure.replaceChildren(root);
}

// fill puts rows of texts into a table; numeric says which columns are numbers.
function fill(table, rows, numeric, nothing) {
  const body = table.tBodies[0];
  if (rows.length === 0) {
    const cell = document.createElement("td");
    cell.colSpan = numeric.length;
    cell.className = "none";
    cell.textContent = nothing;
    rows = [cell];
  }
  body.replaceChildren(...rows.map(row => {
    const line = document.createElement("tr");
    if (row instanceof Node) {
      line.append(row);
      return line;
    }
    row.forEach((text, i) => {
      const cell = document.createElement("td");
      if (numeric[i]) cell.className = "n";
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  }));
}
