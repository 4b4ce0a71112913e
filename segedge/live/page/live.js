// The page: sources from the server, pictures in tiles, figures and charts of the active source.

import { drawLatency, drawRate } from "/static/charts.js";
import { Connection } from "/static/connection.js";
import { Controls } from "/static/controls.js";
import { Picture } from "/static/picture.js";

const $ = (id) => document.getElementById(id);
const POINTS = 60, LEGEND_EVERY_MS = 250;
const EMPTY = { classes: [], palette: [] };

let sources = [], active = 0, grid = true, paused = false, connected = false, over = false, legendTimer = null;

const controls = new Controls({ look: redraw, pause, snapshot, step, grid: toggleGrid });
const connection = new Connection({
  up() { connected = true; watch(); status(); },
  down({ hasEnded, wasOpen }) {
    connected = false;
    if (wasOpen) over = hasEnded;
    status();
  },
  sources: takeSources,
  stats: takeStats,
  frame: takeFrame,
});
document.addEventListener("visibilitychange", watch);
addEventListener("resize", charts);

function takeSources({ title, sources: list }) {
  document.title = $("title").textContent = title;
  sources = list.map((said, number) => {
    const old = sources[number] ?? makeTile(number);
    // A server that started anew has a history of its own.
    return Object.assign(old, said, { points: said.history.slice(-POINTS) });
  });
  $("stage").querySelectorAll(".tile").forEach((tile, i) => i >= sources.length && tile.remove());
  active = Math.min(active, Math.max(0, sources.length - 1));
  picker();
  arrange();
}

function makeTile(number) {
  const tile = document.createElement("figure");
  tile.className = "tile";
  const canvas = tile.appendChild(document.createElement("canvas"));
  canvas.setAttribute("role", "img");
  const caption = tile.appendChild(document.createElement("figcaption"));
  tile.addEventListener("click", () => select(number));
  $("stage").append(tile);
  return { tile, caption, canvas, picture: new Picture(canvas), points: [], stats: null };
}

async function takeFrame(message) {
  const length = new DataView(message).getUint32(0, true);
  const { source: number } = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
  const source = sources[number];
  try {
    await source?.picture.show(message, () => controls.look(source));
  } finally {
    connection.send({ ack: number });
  }
  $("empty").hidden = true;
  if (number === active) legend();
}

function takeStats({ sources: list }) {
  list.forEach((stats, number) => {
    const source = sources[number];
    if (!source) return;
    if (stats.motion) source.every = between(source.stats?.motion, stats.motion) ?? source.every;
    Object.assign(source, { stats, state: stats.state });
    if (stats.point) source.points = [...source.points, stats.point].slice(-POINTS);
  });
  truth();
  charts();
  status();
}

// Frames to each one that the network saw in the last second; undefined where it saw none.
function between(before, now) {
  const seen = now.network_frames - (before?.network_frames ?? 0);
  return seen > 0 ? (now.frames - (before?.frames ?? 0)) / seen : undefined;
}

function picker() {
  const many = sources.length > 1;
  $("picker").hidden = $("source-keys").hidden = !many;
  const button = (text, pressed, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-pressed", pressed);
    made.addEventListener("click", act);
    return made;
  };
  const focused = [...$("picker").children].indexOf(document.activeElement);
  $("picker").replaceChildren(
    button("all", grid, () => { grid = true; picker(); arrange(); }),
    ...sources.map((s, i) => button(s.name, !grid && i === active, () => { grid = false; select(i); })),
  );
  $("picker").children[focused]?.focus();
}

function arrange() {
  const all = grid && sources.length > 1;
  $("stage").classList.toggle("many", all);
  const wide = matchMedia("(min-width: 900px)").matches;
  const columns = !all || !wide ? 1 : Math.ceil(Math.sqrt(sources.length));
  $("stage").style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  $("stage").style.gridAutoRows = wide ? "minmax(0, 1fr)" : "auto";
  sources.forEach((source, i) => {
    source.tile.hidden = !all && i !== active;
    source.tile.classList.toggle("active", i === active);
    source.canvas.setAttribute("aria-label", `${source.name}: segmented video`);
  });
  if (sources[active]?.classes.length) controls.legend(sources[active]);
  watch();
  truth();
  charts();
  status();
  redraw();
  legend(true);
}

// A page that is paused or not to be seen costs the server nothing.
function watch() {
  const wanted = paused || document.hidden ? [] : sources.flatMap((s, i) => (s.tile.hidden ? [] : [i]));
  connection?.send({ watch: wanted });
}

function select(number) {
  active = number;
  picker();
  arrange();
}

function step(by) {
  if (sources.length > 1) select((active + by + sources.length) % sources.length);
}

function toggleGrid() {
  grid = !grid;
  picker();
  arrange();
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  $("pause").textContent = paused ? "go on" : "pause";
  watch();
  status();
}

function redraw() {
  for (const source of sources) source.picture.draw(controls.look(source));
}

// Figures that change with every frame cannot be read: a few times a second is enough.
function legend(now = false) {
  if (!now) {
    legendTimer ??= setTimeout(() => legend(true), LEGEND_EVERY_MS);
    return;
  }
  clearTimeout(legendTimer);
  legendTimer = null;
  const source = sources[active];
  if (source?.picture.header) controls.shares(source.picture.header.shares);
}

function status() {
  const source = sources[active] ?? EMPTY;
  const words = { over: "ended; waiting for the next run", waiting: "waiting for frames", running: "live", ended: "ended", failed: "failed" };
  const state = !connected ? (over ? "over" : "reconnecting") : paused ? "paused" : (source.state ?? "waiting");
  $("status").dataset.state = state === "running" ? "live" : state;
  const text = words[state] ?? state;
  if ($("status").textContent !== text) $("status").textContent = text;
}

function truth() {
  for (const source of sources) caption(source);
  const { stats, backend, model, every } = sources[active] ?? EMPTY;
  const parts = [];
  const add = (value, unit, kind = "") => {
    const part = document.createElement("span");
    part.className = kind;
    const strong = document.createElement("b");
    strong.textContent = value;
    part.append(strong, unit ? ` ${unit}` : "");
    parts.push(part);
  };
  if (stats) {
    const { p50, p95 } = stats.latency_ms;
    add(stats.fps.toFixed(1), "fps");
    if (p50 != null) add(`${ms(p50)} / ${ms(p95)}`, "ms latency, p50 / p95");
    add(stats.dropped, "dropped", stats.dropped ? "dropped" : "");
    if (stats.failed) add(stats.failed, "failed", "dropped");
  }
  if (backend) add(backend, "", "model");
  if (model) add(model, "", "model");
  if (stats?.motion) add(motionLine(stats.motion, every), "", "motion");
  $("truth").replaceChildren(...parts);
}

function motionLine({ agreement, key_age_ms: age }, every) {
  const parts = every ? [`network every ${Number(every.toFixed(1))}`] : [];
  if (agreement != null) parts.push(`agreement ${(100 * agreement).toFixed(1)} %`);
  return [...parts, `key ${ms(age)} ms old`].join(", ");
}

function caption({ caption: element, name, stats }) {
  const strong = document.createElement("b");
  strong.textContent = name;
  const figures = stats ? `  ${stats.fps.toFixed(1)} fps, ${stats.dropped} dropped` : "";
  element.replaceChildren(strong, figures);
}

function charts() {
  const points = sources[active]?.points ?? [];
  drawLatency($("latency-chart"), points);
  drawRate($("rate-chart"), points);
  const dropped = points.reduce((sum, p) => sum + p.dropped, 0);
  const last = points.at(-1);
  const highest = Math.max(0, ...points.map((p) => p.p95_ms ?? 0));
  const largest = highest ? ` (at most ${ms(highest)} ms)` : "";
  key($("latency-key"), [["p50", "key-p50"], [`p95${largest}`, "key-p95"], [`${dropped} dropped`, "key-drop"]]);
  key($("rate-key"), [["last minute", ""]]);
  if (!last) return;
  const rate = (last.frames / last.seconds).toFixed(1);
  const latency = last.p50_ms == null ? "no frames" : `p50 ${ms(last.p50_ms)}, p95 ${ms(last.p95_ms)} ms`;
  $("latency-chart").setAttribute("aria-label", `Latency of the last minute; now ${latency}; ${dropped} dropped`);
  $("rate-chart").setAttribute("aria-label", `Frames a second, the last minute; now ${rate}`);
}

function key(element, entries) {
  element.replaceChildren(...entries.flatMap(([text, kind]) => {
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = text;
    return [part, "  "];
  }));
}

function ms(value) {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

function snapshot() {
  const source = sources[active];
  if (!source?.picture.header) return;
  const { index } = source.picture.header;
  source.canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    const stem = source.name.split(/[\\/]/).pop().replace(/[^\w.-]+/g, "_");
    link.download = `${stem}-${String(index).padStart(6, "0")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
