// A panel that shows columns: three canvases (ground, points, light), of which only what changed is drawn anew, panel after panel for as long
// as a screen frame has time. Owns cameras, lasso and nearest-column look-up; what is chosen is the app's. Extended by spatial.js, scatter.js.
import { label, steps } from "./frame.js";
import { LARGEST, Stamps, word } from "./stamps.js";

const INK = "#e9edf1", NONE = [58, 68, 78], ACCENT = [86, 180, 233];
export const CHOSEN = [245, 166, 35], MUTED = "#93a0ad", PANEL = "#0a0d10";
export const css = (rgb) => `rgb(${rgb.join(",")})`;
export const FACE = 'Inter, "Segoe UI", "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif';
const BUDGET_MS = 9; // of a screen frame that panels may take; the others are drawn in the next, before any of them again
export const FADED = 0.22; // opacity of what is not chosen

/** Camera of a plane: `at` is the point [x, y] in the middle, `zoom` the magnification over what fits. Shared by panels that move together. */
export class Camera {
  constructor() { this.reset(); }
  reset() { this.zoom = 1; this.at = null; }
}

/** Panels that wait to be drawn, in order, each with its layers. */
const waiting = new Map();

function draw() {
  const end = performance.now() + BUDGET_MS;
  for (const [view, layers] of waiting) {
    waiting.delete(view);
    view.paint(layers);
    if (performance.now() > end) break;
  }
  if (waiting.size) requestAnimationFrame(draw);
}

export class View {
  constructor(host, app, camera) {
    this.host = host; this.app = app; this.camera = camera; this.lasso = null; this.stamps = new Stamps();
    [this.ground, this.points, this.light] = ["ground", "points", "light"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = name;
      host.append(canvas);
      return canvas.getContext("2d");
    });
    new ResizeObserver(() => this.resize()).observe(host);
    host.addEventListener("pointerdown", (event) => this.down(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerup", (event) => this.up(event));
    host.addEventListener("pointercancel", () => { this.lasso = this.drag = null; this.touch("light"); });
    host.addEventListener("pointerleave", () => app.hover(-1));
    host.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    host.addEventListener("dblclick", () => { camera.reset(); app.moved(camera); });
    host.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  resize() {
    const ratio = window.devicePixelRatio || 1, { width, height } = this.host.getBoundingClientRect();
    this.width = width; this.height = height; this.ratio = ratio;
    for (const context of [this.ground, this.points, this.light]) {
      context.canvas.width = Math.max(1, Math.round(width * ratio));
      context.canvas.height = Math.max(1, Math.round(height * ratio));
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.touch("ground", "points", "light");
  }

  /** Ask for layers to be drawn in one of the next screen frames. */
  touch(...layers) {
    if (!waiting.size) requestAnimationFrame(draw);
    if (!waiting.has(this)) waiting.set(this, new Set());
    layers.forEach((layer) => waiting.get(this).add(layer));
  }

  paint(layers) {
    if (!this.width) return;
    this.place();
    for (const layer of ["ground", "points", "light"]) if (layers.has(layer)) {
      this[layer].clearRect(0, 0, this.width, this.height);
      if (this.app.frame || layer === "ground") this[`paint_${layer}`](this[layer]);
    }
    this.points.canvas.style.opacity = this.app.chosen ? FADED : 1;
  }

  where(event) { const box = this.host.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }
  bounds() { return [0, 0, this.width, this.height]; }
  screen(x, y) { return [this.ax * x + this.bx, this.ay * y + this.by]; }
  data(px, py) { return [(px - this.bx) / this.ax, (py - this.by) / this.ay]; }

  down(event) {
    this.host.setPointerCapture(event.pointerId);
    const at = this.where(event);
    if (event.button === 0) this.lasso = { points: [at], add: event.shiftKey };
    else this.drag = at;
  }

  move(event) {
    const at = this.where(event);
    if (this.drag) {
      this.place();
      const [x, y] = this.middle();
      this.camera.at = [x - (at[0] - this.drag[0]) / this.ax, y - (at[1] - this.drag[1]) / this.ay];
      this.drag = at;
      this.app.moved(this.camera);
    } else if (this.lasso) {
      const last = this.lasso.points.at(-1);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) < 3) return;
      this.lasso.points.push(at);
      this.choose();
    } else this.app.hover(this.nearest(...at));
  }

  up() {
    if (this.lasso) {
      if (this.lasso.points.length < 4) { if (!this.lasso.add) this.app.clear(); } else this.choose(true);
    }
    this.lasso = this.drag = null;
    this.touch("light");
  }

  choose(final = false) {
    const polygon = this.lasso.points.map(([x, y]) => this.data(x, y));
    this.app.choose({ x: this.xName, y: this.yName, polygon }, this.lasso.add, final);
  }

  wheel(event) {
    event.preventDefault();
    this.place(); // several events may come before the next screen frame
    const [px, py] = this.where(event), [x, y] = this.data(px, py), [mx, my] = this.middle();
    const zoom = Math.max(this.least, Math.min(80, this.camera.zoom * 1.0016 ** -event.deltaY)), by = this.camera.zoom / zoom;
    this.camera.zoom = zoom;
    this.camera.at = zoom === 1 && this.least === 1 ? null : [x + (mx - x) * by, y + (my - y) * by];
    this.app.moved(this.camera);
  }

  nearest(px, py) {
    const { frame } = this.app;
    if (!frame || !frame.field[this.xName] || !frame.field[this.yName]) return -1;
    const xs = frame.field[this.xName], ys = frame.field[this.yName];
    let best = 14 ** 2, found = -1;
    for (let i = 0; i < frame.n; i++) {
      const dx = this.ax * xs[i] + this.bx - px, dy = this.ay * ys[i] + this.by - py, d = dx * dx + dy * dy;
      if (d < best) { best = d; found = i; }
    }
    return found;
  }

  /** Say whether the frame has no such field; what `found` paints is no field. */
  lacks(name) { return name !== "found" && !this.app.frame.field[name]; }

  missing(context, name) {
    context.fillStyle = MUTED; context.font = `13px ${FACE}`; context.textAlign = "center";
    context.fillText(`no ${label(name)} in this frame`, this.width / 2, this.height / 2);
  }

  /** Draw a disk a column in the colours of a field, or of one `colour`; a ring where it has a `line`. `pick` says which, `keep` over what. */
  disks(context, field, radius, { pick = null, colour = null, line = 0, strength = 1, keep = false } = {}) {
    const { frame } = this.app, xs = frame.field[this.xName], ys = frame.field[this.yName];
    if (!xs || !ys) return;
    const { ax, ay, bx, by, ratio, stamps } = this, [left, top, right, bottom] = this.bounds(), shades = colour ? null : this.shades(field);
    const stamped = radius * ratio <= LARGEST, one = colour && word(colour);
    if (stamped) stamps.begin(context, radius * ratio, line * ratio, strength, [left, top, right, bottom].map((side) => side * ratio), keep);
    context.lineWidth = line;
    for (let i = 0; i < frame.n; i++) {
      if (pick && !pick[i]) continue;
      const x = ax * xs[i] + bx, y = ay * ys[i] + by;
      if (!(x > left - radius && x < right + radius && y > top - radius && y < bottom + radius)) continue;
      const shade = colour ? one : shades[i];
      if (stamped) { stamps.put(x * ratio, y * ratio, shade); continue; }
      context.fillStyle = context.strokeStyle = css([shade & 255, (shade >> 8) & 255, shade >> 16]);
      context.beginPath();
      context.arc(x, y, radius, 0, 6.2832);
      if (line) context.stroke(); else context.fill();
    }
    if (stamped) stamps.end();
  }

  /** The colour of each column by a field, as words, kept with the frame. */
  shades(field) {
    const { frame } = this.app;
    frame.shades ??= new Map();
    if (!frame.shades.has(field)) {
      const map = this.app.maps[field === "angle" ? "angle" : "latent"].map(word), none = word(NONE);
      const shades = field === "found" ? new Uint32Array(frame.n).fill(word(ACCENT)) : Uint32Array.from(steps(frame, field), (step) => (step === 256 ? none : map[step]));
      frame.shades.set(field, shades);
    }
    return frame.shades.get(field);
  }

  /** Chosen columns keep their colour while the others fade; where there is room, a ring says so too. */
  lit(context, radius, chosen) {
    this.disks(context, this.field(), radius, { pick: chosen });
    if (radius > 5) this.disks(context, this.field(), radius + 0.5, { pick: chosen, colour: CHOSEN, line: 1.5, keep: true });
  }

  paint_light(context) {
    const { frame, chosen, pointed } = this.app;
    const xs = frame.field[this.xName], ys = frame.field[this.yName], radius = this.radius();
    if (chosen && xs && ys) this.lit(context, radius, chosen);
    if (pointed >= 0 && pointed < frame.n && xs && ys) {
      const [x, y] = this.screen(xs[pointed], ys[pointed]);
      context.strokeStyle = INK;
      context.lineWidth = 1.6;
      context.beginPath();
      context.arc(x, y, Math.max(radius + 3, 6), 0, 6.2832);
      context.stroke();
    }
    if (this.lasso?.points.length > 1) {
      context.beginPath();
      this.lasso.points.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.fillStyle = "#f5a6231c";
      context.fill();
      context.strokeStyle = css(CHOSEN);
      context.lineWidth = 1.3;
      context.stroke();
    }
  }
}
