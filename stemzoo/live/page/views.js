// Panels that show columns: the scan, maps of a field, the scatter. Each is three canvases (ground, points, light), drawn once a screen frame
// and only what changed. Owns cameras, lasso and nearest-column look-up; what is chosen is the app's.
import { label, limits, steps } from "./frame.js";

const ACCENT = "#56b4e9", CHOSEN = "#f5a623", INK = "#e9edf1", MUTED = "#93a0ad", LINE = "#222a32", PANEL = "#0a0d10";
export const FACE = 'Inter, "Segoe UI", "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif';
const BINS = 64;
export const FADED = 0.22; // opacity of what is not chosen

/** Camera of a plane: `at` is the point [x, y] in the middle, `zoom` the magnification over what fits. Shared by panels that move together. */
export class Camera {
  constructor() { this.reset(); }
  reset() { this.zoom = 1; this.at = null; }
}

class View {
  constructor(host, app, camera) {
    this.host = host; this.app = app; this.camera = camera; this.lasso = null; this.dirty = new Set();
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
    this.width = width; this.height = height;
    for (const context of [this.ground, this.points, this.light]) {
      context.canvas.width = Math.max(1, Math.round(width * ratio));
      context.canvas.height = Math.max(1, Math.round(height * ratio));
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.touch("ground", "points", "light");
  }

  /** Ask for layers to be drawn before the next screen frame. */
  touch(...layers) {
    if (!this.dirty.size) requestAnimationFrame(() => { const todo = this.dirty; this.dirty = new Set(); this.paint(todo); });
    layers.forEach((layer) => this.dirty.add(layer));
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

  /** Fill a disk a column, a path a colour: `pick` says which columns. */
  disks(context, field, radius, pick = null, colourOfAll = null, ring = false) {
    const { frame } = this.app, xs = frame.field[this.xName], ys = frame.field[this.yName];
    if (!xs || !ys) return;
    for (const [colour, members] of this.buckets(field)) {
      context.fillStyle = context.strokeStyle = colourOfAll ?? colour;
      context.beginPath();
      for (const i of members) {
        if (pick && !pick[i]) continue;
        const x = this.ax * xs[i] + this.bx, y = this.ay * ys[i] + this.by;
        if (!(x > -radius && x < this.width + radius && y > -radius && y < this.height + radius)) continue;
        if (radius < 1.6) context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
        else { context.moveTo(x + radius, y); context.arc(x, y, radius, 0, 6.2832); }
      }
      if (ring) context.stroke(); else context.fill();
    }
  }

  /** [colour, members] of a field, kept with the frame. */
  buckets(field) {
    const { frame } = this.app;
    frame.buckets ??= new Map();
    if (frame.buckets.has(field)) return frame.buckets.get(field);
    let out;
    if (field === "found") out = [[ACCENT, Uint32Array.from({ length: frame.n }, (_, i) => i)]];
    else {
      const at = steps(frame, field), lists = Array.from({ length: BINS + 1 }, () => []);
      at.forEach((step, i) => lists[step === 256 ? BINS : step >> 2].push(i));
      const map = this.app.maps[field === "angle" ? "angle" : "latent"];
      out = lists.map((members, bin) => [bin === BINS ? "#3a444e" : `rgb(${map[bin * 4 + 2].join(",")})`, members]).filter(([, members]) => members.length);
    }
    frame.buckets.set(field, out);
    return out;
  }

  /** Chosen columns keep their colour while the others fade; where there is room, a ring says so too. */
  lit(context, radius, chosen) {
    this.disks(context, this.field(), radius, chosen);
    context.lineWidth = 1.5;
    if (radius > 5) this.disks(context, this.field(), radius + 0.5, chosen, CHOSEN, true);
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
      context.strokeStyle = CHOSEN;
      context.lineWidth = 1.3;
      context.stroke();
    }
  }
}

/** The scan itself, or a map of a field over it; all of them share one camera. */
export class SpatialView extends View {
  constructor(host, app, camera, paint, isScan) {
    super(host, app, camera);
    this.paintName = paint; this.isScan = isScan; this.xName = "x"; this.yName = "y"; this.least = 1;
  }

  field() { return typeof this.paintName === "function" ? this.paintName() : this.paintName; }
  middle() { const { width, height } = this.app.size; return this.camera.at ?? [(width - 1) / 2, (height - 1) / 2]; }

  place() {
    const { width, height } = this.app.size, [x, y] = this.middle();
    this.ax = this.ay = Math.min(this.width / width, this.height / height) * this.camera.zoom;
    this.bx = this.width / 2 - this.ax * x;
    this.by = this.height / 2 - this.ay * y;
  }

  radius() {
    const spacing = (this.app.frame?.spacing ?? 10) * this.ax;
    return this.isScan ? Math.min(Math.max(0.15 * spacing, 1.1), 10) : Math.max(0.47 * spacing, 1.1);
  }

  paint_ground(context) {
    context.fillStyle = PANEL;
    context.fillRect(0, 0, this.width, this.height);
    const { picture, size } = this.app;
    if (!this.isScan || !picture) return;
    const [x, y] = this.screen(-0.5, -0.5);
    context.imageSmoothingEnabled = this.ax * picture.step < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture.canvas, x, y, picture.width * picture.step * this.ax, picture.height * picture.step * this.ay);
    this.scaleBar(context, size);
  }

  paint_points(context) {
    if (this.isScan && !this.app.columnsShown) return;
    const radius = this.radius(), found = this.field() === "found";
    context.lineWidth = 1.5;
    this.disks(context, this.field(), radius, null, null, found && radius > 3.2);
  }

  /** On the scan, chosen columns are amber, whatever the others are painted by. */
  lit(context, radius, chosen) {
    if (!this.isScan) super.lit(context, radius, chosen);
    else if (this.app.columnsShown) this.disks(context, this.field(), Math.max(1.15 * radius, 1.8), chosen, CHOSEN);
  }

  paint_light(context) {
    super.paint_light(context);
    if (this.field() === "angle" && this.app.frame.field.angle) this.wheelLegend(context);
  }

  scaleBar(context) {
    const pixel = this.app.pixelSize, perPx = pixel ? pixel / 10 : 1, span = (0.22 * this.width / this.ax) * perPx;
    const power = 10 ** Math.floor(Math.log10(span)), length = [5, 2, 1].map((k) => k * power).find((k) => k <= span) ?? power;
    const wide = (length / perPx) * this.ax, text = pixel ? (length < 1 ? `${+(10 * length).toPrecision(2)} Å` : `${+length.toPrecision(3)} nm`) : `${+length.toPrecision(3)} px`;
    const x = 16, y = this.height - 18;
    context.fillStyle = "#0b0e11a8";
    context.beginPath();
    context.roundRect(x - 8, y - 24, wide + 16, 34, 5);
    context.fill();
    context.fillStyle = "#fff";
    context.fillRect(x, y, wide, 3);
    context.font = `12px ${FACE}`;
    context.textAlign = "center";
    context.fillText(text, x + wide / 2, y - 6);
  }

  wheelLegend(context) {
    const { frame, maps } = this.app, r = Math.min(24, this.width / 9), x = this.width - r - 10, y = this.height - r - 10;
    context.fillStyle = "#0a0d10d8";
    context.beginPath();
    context.arc(x, y, r + 6, 0, 6.2832);
    context.fill();
    for (let k = 0; k < 72; k++) {
      const from = (k / 72) * 2 * Math.PI, turn = (from * frame.fold) / (2 * Math.PI), colour = maps.angle[Math.floor((turn - Math.floor(turn)) * 256)];
      context.strokeStyle = `rgb(${colour.join(",")})`;
      context.lineWidth = r * 0.42;
      context.beginPath();
      context.arc(x, y, r * 0.78, -from - 0.09, -from);
      context.stroke();
    }
    context.fillStyle = MUTED;
    context.font = `10.5px ${FACE}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText("0°", x + r * 0.22, y);
    context.textBaseline = "alphabetic";
  }
}

/** Any field against any other. */
export class ScatterView extends View {
  constructor(host, app, camera) {
    super(host, app, camera);
    this.xName = "z1"; this.yName = "z2"; this.hue = "angle"; this.least = 0.2; this.held = new Map();
  }

  field() { return this.hue; }
  radius() { return Math.max(1.4, Math.min(3, 110 / Math.sqrt(this.app.frame?.n ?? 1))) * Math.min(1.6, Math.sqrt(this.camera.zoom)); }

  /** Limits of an axis, which stay while a new frame's are nearly the same, so that a series does not jump. */
  span(name) {
    const [low, high] = limits(this.app.frame, name), pad = 0.1 * (high - low), next = [low - pad, high + pad], held = this.held.get(name);
    const wide = next[1] - next[0];
    if (held && Math.abs(held[0] - next[0]) < 0.2 * wide && Math.abs(held[1] - next[1]) < 0.2 * wide) return held;
    this.held.set(name, next);
    return next;
  }

  place() {
    if (!this.app.frame) { this.ax = this.ay = 1; this.bx = this.by = 0; this.spans = [[0, 1], [0, 1]]; return; }
    this.spans = [this.span(this.xName), this.span(this.yName)];
    const [[x0, x1], [y0, y1]] = this.spans, wide = this.width - 58, tall = this.height - 46, [x, y] = this.middle();
    this.ax = (wide / (x1 - x0)) * this.camera.zoom;
    this.ay = (-tall / (y1 - y0)) * this.camera.zoom;
    this.bx = 48 + wide / 2 - this.ax * x;
    this.by = 10 + tall / 2 - this.ay * y;
  }

  middle() { return this.camera.at ?? this.spans.map(([low, high]) => (low + high) / 2); }

  paint_ground(context) {
    context.fillStyle = PANEL;
    context.fillRect(0, 0, this.width, this.height);
    if (!this.app.frame) return;
    context.font = `11px ${FACE}`;
    context.strokeStyle = LINE;
    context.fillStyle = MUTED;
    context.lineWidth = 1;
    context.textAlign = "center";
    for (const value of ticks(this.data(48, 0)[0], this.data(this.width - 10, 0)[0], this.width / 90)) {
      const x = Math.round(this.screen(value, 0)[0]) + 0.5;
      context.beginPath(); context.moveTo(x, 10); context.lineTo(x, this.height - 36); context.stroke();
      context.fillText(text(value), x, this.height - 22);
    }
    context.textAlign = "right";
    for (const value of ticks(this.data(0, this.height - 36)[1], this.data(0, 10)[1], this.height / 60)) {
      const y = Math.round(this.screen(0, value)[1]) + 0.5;
      context.beginPath(); context.moveTo(48, y); context.lineTo(this.width - 10, y); context.stroke();
      context.fillText(text(value), 43, y + 4);
    }
    context.textAlign = "center";
    context.fillText(label(this.xName), 48 + (this.width - 58) / 2, this.height - 6);
    context.save();
    context.translate(11, 10 + (this.height - 46) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(label(this.yName), 0, 0);
    context.restore();
  }

  lit(context, radius, chosen) { this.disks(context, this.hue, 1.2 * radius, chosen); }

  clipped(context, draw) {
    context.save();
    context.beginPath();
    context.rect(48, 10, this.width - 58, this.height - 46);
    context.clip();
    draw();
    context.restore();
  }

  paint_points(context) {
    const { frame } = this.app;
    if (!frame.field[this.xName] || !frame.field[this.yName]) {
      context.fillStyle = MUTED; context.font = `13px ${FACE}`; context.textAlign = "center";
      context.fillText(`no ${label(frame.field[this.xName] ? this.yName : this.xName)} in this frame`, this.width / 2, this.height / 2);
      return;
    }
    this.clipped(context, () => { context.globalAlpha = 0.85; this.disks(context, this.hue, this.radius()); context.globalAlpha = 1; });
  }

  paint_light(context) { this.clipped(context, () => super.paint_light(context)); }
}

function ticks(low, high, count) {
  if (!(high > low)) return [];
  const rough = (high - low) / Math.max(2, count), power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const out = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) out.push(Math.abs(value) < 1e-9 * step ? 0 : value);
  return out;
}

const text = (value) => (Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(0) : String(+value.toPrecision(4))).replace("-", "−");

