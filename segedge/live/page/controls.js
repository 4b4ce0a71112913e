// What the viewer sets: mode, opacity, classes. Remembered by the browser.

const $ = (id) => document.getElementById(id);
const KEPT = "segedge-look";

export class Controls {
  // on: {look, pause, snapshot, step (by), grid}
  constructor(on) {
    this.on = on;
    this.rows = [];
    this.off = new Set(); // names of classes that are off
    this.restore();
    $("modes").addEventListener("change", () => this.changed());
    $("opacity").addEventListener("input", () => this.changed());
    $("pause").addEventListener("click", on.pause);
    $("snapshot").addEventListener("click", on.snapshot);
    $("all").addEventListener("click", () => this.switchAll(true));
    $("none").addEventListener("click", () => this.switchAll(false));
    document.addEventListener("keydown", (event) => this.key(event));
    this.changed();
  }

  get mode() { return document.querySelector("#modes input:checked").value; }
  set mode(value) {
    const input = document.querySelector(`#modes input[value="${value}"]`);
    if (input) input.checked = true;
  }
  get opacity() { return Number($("opacity").value) / 100; }
  set opacity(share) { $("opacity").value = Math.round(share * 100); }

  look(source) {
    const off = new Set(source.classes.flatMap((name, i) => (this.off.has(name) ? [i] : [])));
    return { mode: this.mode, opacity: this.opacity, palette: source.palette, off };
  }

  changed() {
    $("opacity-value").value = `${$("opacity").value} %`;
    for (const row of this.rows) row.button.setAttribute("aria-checked", !this.off.has(row.name));
    const kept = { mode: this.mode, opacity: this.opacity, off: [...this.off] };
    try { localStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* not allowed: fine */ }
    this.on.look();
  }

  restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
      if (kept.mode) this.mode = kept.mode;
      if (kept.opacity >= 0) this.opacity = kept.opacity;
      this.off = new Set(kept.off ?? []);
    } catch { /* nothing kept, or not allowed */ }
  }

  legend(source) {
    const names = source.classes.join("\n");
    if (this.names === names) return;
    this.names = names;
    this.rows = source.classes.map((name, label) => legendRow(name, source.palette[label]));
    $("legend").replaceChildren(...this.rows.map((row) => row.item));
    for (const row of this.rows) {
      row.button.addEventListener("click", () => {
        if (!this.off.delete(row.name)) this.off.add(row.name);
        this.changed();
      });
    }
    this.changed();
  }

  shares(values) {
    this.rows.forEach((row, i) => {
      const share = values[i] ?? 0;
      row.share.textContent = share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`;
      row.bar.style.transform = `scaleX(${share})`;
    });
  }

  switchAll(on) {
    for (const { name } of this.rows) on ? this.off.delete(name) : this.off.add(name);
    this.changed();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isControl = event.target.closest?.("input, button");
    const turn = (by) => { this.opacity = Math.min(1, Math.max(0, this.opacity + by)); this.changed(); };
    const pick = (mode) => { this.mode = mode; this.changed(); };
    const actions = {
      1: () => pick("original"), 2: () => pick("overlay"), 3: () => pick("mask"),
      o: () => turn(-0.05), p: () => turn(0.05), s: this.on.snapshot, g: this.on.grid,
    };
    if (!isControl) { // a focused button or slider has these keys for itself
      actions[" "] = this.on.pause;
      actions.ArrowLeft = () => this.on.step(-1);
      actions.ArrowRight = () => this.on.step(1);
    }
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

function legendRow(name, [r, g, b]) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "class";
  button.setAttribute("role", "switch");
  button.setAttribute("aria-label", name);
  const parts = ["swatch", "name", "share", "bar"].map((kind) => {
    const part = document.createElement("span");
    part.className = kind;
    return part;
  });
  parts[0].style.background = `rgb(${r}, ${g}, ${b})`;
  parts[1].textContent = parts[1].title = name;
  const bar = parts[3].appendChild(document.createElement("i"));
  button.append(...parts);
  item.append(button);
  return { name, item, button, share: parts[2], bar };
}
