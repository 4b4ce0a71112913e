// Small charts of the last minute: a point a second, newest at the right.

const SECONDS = 60, HEAD = 14, FOOT = 4;
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();

export function drawLatency(canvas, points) {
  const lines = [
    { values: points.map((p) => p.p95_ms), colour: colour("--second") },
    { values: points.map((p) => p.p50_ms), colour: colour("--accent") },
  ];
  draw(canvas, lines, points.map((p) => p.dropped), "ms");
}

export function drawRate(canvas, points) {
  const values = points.map((p) => p.frames / p.seconds);
  draw(canvas, [{ values, colour: colour("--accent"), filled: true }], [], "fps");
}

function draw(canvas, lines, drops, unit) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const top = ceiling(reach(lines[0].values.filter((v) => v !== null)));
  const x = (i, n) => ((SECONDS - n + i + 0.5) / SECONDS) * width;
  const y = (value) => height - FOOT - (Math.min(value, top) / top) * (height - FOOT - HEAD);
  grid(pen, width, [0, top / 2, top], y, unit);
  drops.forEach((count, i) => count > 0 && mark(pen, x(i, drops.length), height));
  for (const line of lines) stroke(pen, line, x, y, height - FOOT);
}

function grid(pen, width, values, y, unit) {
  pen.font = "11px system-ui, sans-serif";
  pen.lineWidth = 1;
  for (const value of values) {
    pen.strokeStyle = colour("--line");
    pen.beginPath();
    pen.moveTo(0, Math.round(y(value)) + 0.5);
    pen.lineTo(width, Math.round(y(value)) + 0.5);
    pen.stroke();
  }
  pen.fillStyle = colour("--quiet");
  pen.fillText(`${values.at(-1)} ${unit}`, 0, y(values.at(-1)) - 4);
}

// A second in which frames were dropped: a faint line with a red foot.
function mark(pen, x, height) {
  pen.fillStyle = colour("--bad");
  pen.globalAlpha = 0.25;
  pen.fillRect(x - 1, HEAD, 2, height - HEAD);
  pen.globalAlpha = 1;
  pen.fillRect(x - 1.5, height - 9, 3, 9);
}

function stroke(pen, { values, colour: ink, filled }, x, y, floor) {
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 1.75;
  pen.lineJoin = "round";
  let run = [];
  for (let i = 0; i <= values.length; i++) {
    if (i < values.length && values[i] !== null) {
      run.push([x(i, values.length), y(values[i])]);
    } else if (run.length) {
      path(pen, run, filled, floor);
      run = [];
    }
  }
}

function path(pen, run, filled, floor) {
  pen.beginPath();
  for (const [px, py] of run) pen.lineTo(px, py);
  pen.stroke();
  const [lastX, lastY] = run.at(-1);
  if (run.length === 1) pen.fillRect(lastX - 1.5, lastY - 1.5, 3, 3);
  if (!filled) return;
  pen.lineTo(lastX, floor);
  pen.lineTo(run[0][0], floor);
  pen.globalAlpha = 0.14;
  pen.fill();
  pen.globalAlpha = 1;
}

// The largest value, unless a few stand so high (a first frame) that they would flatten the rest:
// those are cut at the top, and the key gives the largest.
function reach(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const usual = ordered[Math.floor((ordered.length - 1) * 0.75)] ?? 0;
  return Math.min(ordered.at(-1) ?? 0, 4 * usual);
}

// The next of 1, 2, 3, 5 times a power of ten.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 3, 5, 10].map((f) => f * power).find((v) => v >= value * 1.02) ?? 10 * power;
}
