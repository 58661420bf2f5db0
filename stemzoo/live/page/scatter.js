// Any field of the columns against any other. Owns axes, their limits over a series, and the look of the points.
import { label, limits } from "./frame.js";
import { FACE, MUTED, PANEL, View } from "./views.js";

const LINE = "#222a32";

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

  bounds() { return [48, 10, this.width - 10, this.height - 36]; }
  lit(context, radius, chosen) { this.disks(context, this.hue, 1.2 * radius, { pick: chosen }); }

  clipped(context, draw) {
    context.save();
    context.beginPath();
    context.rect(48, 10, this.width - 58, this.height - 46);
    context.clip();
    draw();
    context.restore();
  }

  paint_points(context) {
    const lacking = [this.xName, this.yName].find((name) => this.lacks(name));
    if (lacking) { this.missing(context, lacking); return; }
    this.disks(context, this.hue, this.radius(), { strength: 0.85 });
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

const text = (value) => (Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? (+value.toPrecision(4)).toExponential() : String(+value.toPrecision(4))).replace("-", "−");

