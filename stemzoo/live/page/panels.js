// Numbers and small drawings beside the maps: the head, stages, series, what is chosen and its mean pattern. Takes values, draws them.
import { label, medianError } from "./frame.js";

const STAGE_COLOURS = { read: "#5d6977", clean: "#7b8794", scale: "#4a7d9c", resample: "#3c6e71", network: "#56b4e9", peaks: "#39c08f", refine: "#f5a623", choose: "#8f7ee7", cut: "#b07cc6", encode: "#e38bc0" };

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** A standard error given in px, as text and unit. */
export const error = (sigma, pixelSize) => (Number.isNaN(sigma) ? ["–", ""] : pixelSize ? [(100 * sigma * pixelSize).toFixed(1), "pm"] : [sigma.toFixed(3), "px"]);

/** Numbers of the head: [[value, unit, what], …]. */
export function head(host, rows) {
  host.replaceChildren(...rows.map(([value, unit, what]) => {
    const cell = element("div"), shown = element("dd", value);
    if (unit) shown.append(" ", element("small", unit));
    cell.append(element("dt", what), shown);
    return cell;
  }));
}

/** All that is said of a frame, a sentence each: first what speaks against it, then what was decided. */
export function sentences(host, doubts, notices) {
  host.replaceChildren(...doubts.map((text) => element("p", text, "doubt")), ...notices.map((text) => element("p", text)));
}

/** One strip of the time by stage, and its legend; stages below 1 % are left to the strip. */
export function stages(host, seconds) {
  const rows = Object.entries(seconds), total = rows.reduce((sum, [, value]) => sum + value, 0) || 1;
  const strip = element("div", "", "strip"), list = element("ul");
  for (const [name, value] of rows) {
    const part = element("i");
    part.style.width = `${(100 * value) / total}%`;
    part.style.background = STAGE_COLOURS[name] ?? "#5d6977";
    part.title = `${name} ${time(value)}`;
    strip.append(part);
  }
  for (const [name, value] of [...rows].sort((a, b) => b[1] - a[1]).filter(([, value]) => value > 0.015 * total)) {
    const item = element("li"), key = element("i");
    key.style.background = STAGE_COLOURS[name] ?? "#5d6977";
    item.append(key, `${name} `, element("b", time(value)));
    list.append(item);
  }
  host.replaceChildren(strip, list);
}

export const time = (seconds) => (seconds >= 1 ? `${seconds.toFixed(2)} s` : `${Math.round(1000 * seconds)} ms`);

/** The series as bars, as high as a frame has columns; the shown one is bright, failed ones are red. */
export function spark(canvas, frames, shownId) {
  const ratio = window.devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect(), context = canvas.getContext("2d");
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const most = Math.max(1, ...frames.map((frame) => frame.columns ?? 0)), slot = width / Math.max(frames.length, 24);
  context.fillStyle = "#1a2027";
  context.fillRect(0, height - 1, width, 1);
  frames.forEach((frame, k) => {
    const tall = frame.state === "failed" ? height - 8 : Math.max(3, ((frame.columns ?? 0) / most) * (height - 6));
    context.fillStyle = frame.id === shownId ? "#e9edf1" : frame.state === "failed" ? "#a8484c" : frame.state === "done" ? "#3d4c59" : "#2c6285";
    context.fillRect(k * slot, height - 1 - tall, Math.max(1, slot - 2), tall);
  });
}

/** What is chosen, or all columns where nothing is: count, means, and the mean pattern around a column. */
export function chosen(host, app) {
  const { frame, picture } = app, picked = app.chosen;
  if (!frame) { host.replaceChildren(); return; }
  const members = [];
  for (let i = 0; i < frame.n; i++) if (!picked || picked[i]) members.push(i);
  const count = element("p", members.length.toLocaleString("en"), "count");
  count.append(" ", element("small", picked ? `of ${frame.n.toLocaleString("en")} columns` : "columns, all of them"));
  if (!picked) count.style.color = "inherit";
  const table = element("table");
  for (const [what, value] of rows(frame, members, app.pixelSize)) {
    const row = element("tr");
    row.append(element("th", what), element("td", value.replace(/^-/, "−")));
    table.append(row);
  }
  const parts = [count, table];
  if (picture && members.length) {
    const figure = element("figure");
    for (const [turned, said] of [[false, "mean, as they lie"], [true, "aligned by angle"]]) {
      if (turned && !frame.field.angle) continue;
      const cell = element("div"), canvas = document.createElement("canvas");
      meanPattern(canvas, frame, picture, members, turned);
      cell.append(canvas, said);
      figure.append(cell);
    }
    parts.push(figure);
  }
  if (!picked) parts.push(element("p", "Draw round points in any panel to choose. Shift adds, Esc clears, the wheel zooms, a right drag moves."));
  host.replaceChildren(...parts);
}

function rows(frame, members, pixelSize) {
  const { field } = frame, out = [];
  const of = (name) => members.map((i) => field[name][i]).filter(Number.isFinite);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
  const spread = (values, middle = mean(values)) => Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
  if (!members.length) return out;
  out.push(["median error", error(medianError(frame, members), pixelSize).join(" ")]);
  if (field.angle) {
    let c = 0, s = 0, k = 0;
    for (const i of members) if (Number.isFinite(field.angle[i])) { c += Math.cos(frame.fold * field.angle[i]); s += Math.sin(frame.fold * field.angle[i]); k++; }
    const order = Math.hypot(c, s) / (k || 1), angle = (Math.atan2(s, c) / frame.fold) * (180 / Math.PI);
    out.push(["angle", order > 0.15 ? `${angle.toFixed(1)}°${frame.fold > 1 ? ` mod ${+(360 / frame.fold).toFixed(1)}°` : ""}` : "all directions"]);
  }
  for (const name of Object.keys(field).filter((key) => /^z\d+$/.test(key)).slice(0, 4)) {
    const values = of(name);
    if (values.length) out.push([label(name), `${mean(values).toFixed(2)} ± ${spread(values).toFixed(2)}`]);
  }
  const intensity = mean(of("intensity"));
  out.push(["intensity", Math.abs(intensity) < 100 ? intensity.toPrecision(3) : Math.round(intensity).toLocaleString("en")]);
  return out;
}

/** Mean of the picture around up to 150 columns whose window lies inside; turned back by each one's angle where asked. */
function meanPattern(canvas, frame, picture, members, turned) {
  const window = (frame.answer.window_px ?? 2.75 * frame.spacing) / picture.step, size = 48, sum = new Float64Array(size * size), { grey, width, height } = picture;
  const reach = window / 2, every = Math.max(1, Math.floor(members.length / 150));
  let used = 0;
  for (let m = 0; m < members.length; m += every) {
    const i = members[m], x0 = (frame.field.x[i] + 0.5) / picture.step - 0.5, y0 = (frame.field.y[i] + 0.5) / picture.step - 0.5;
    const angle = turned ? frame.field.angle[i] : 0;
    if (Number.isNaN(angle) || x0 < reach || y0 < reach || x0 > width - 2 - reach || y0 > height - 2 - reach) continue;
    const c = Math.cos(angle), s = Math.sin(angle);
    for (let row = 0; row < size; row++) for (let col = 0; col < size; col++) {
      const u = ((col + 0.5) / size - 0.5) * window, v = ((row + 0.5) / size - 0.5) * window;
      const x = Math.max(0, Math.min(width - 2, x0 + c * u + s * v)), y = Math.max(0, Math.min(height - 2, y0 - s * u + c * v));
      const xi = x | 0, yi = y | 0, fx = x - xi, fy = y - yi, at = yi * width + xi;
      sum[row * size + col] += (grey[at] * (1 - fx) + grey[at + 1] * fx) * (1 - fy) + (grey[at + width] * (1 - fx) + grey[at + width + 1] * fx) * fy;
    }
    used++;
  }
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), out = context.createImageData(size, size);
  let low = Infinity, high = -Infinity;
  for (let k = 0; k < sum.length; k++) {
    if (turned && Math.hypot((k % size) - size / 2 + 0.5, Math.floor(k / size) - size / 2 + 0.5) > size / 2) { sum[k] = NaN; continue; }
    low = Math.min(low, sum[k]); high = Math.max(high, sum[k]);
  }
  for (let k = 0; k < sum.length; k++) {
    const value = used && !Number.isNaN(sum[k]) ? (255 * (sum[k] - low)) / (high - low || 1) : 0;
    out.data.set([value, value, value, used && !Number.isNaN(sum[k]) ? 255 : 0], 4 * k);
  }
  context.putImageData(out, 0, 0);
}

/** A small bar of a colour map between two limits. */
export function colourBar(host, map, low, high) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = 256; canvas.height = 1;
  map.forEach((rgb, k) => { context.fillStyle = `rgb(${rgb.join(",")})`; context.fillRect(k, 0, 1, 1); });
  const short = (value) => String(+value.toPrecision(2)).replace("-", "−");
  host.replaceChildren(short(low), canvas, short(high));
}
