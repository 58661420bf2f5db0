// One frame's columns as arrays, and what can be asked of them: a value by name, its limits, who lies inside a lasso.
const NAMES = { found: "found", angle: "angle", sigma: "error", intensity: "intensity", confidence: "confidence", species: "species" };
export const label = (field) => NAMES[field] ?? field.replace(/^z(\d+)$/, "latent $1");

const numbers = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));

/** Arrays of one frame from the server's answer; `n` columns, fields by name. */
export function unpack(answer) {
  const c = answer.frames[0].columns;
  const field = { y: numbers(c.y_px), x: numbers(c.x_px), intensity: numbers(c.intensity), confidence: numbers(c.confidence), species: numbers(c.species) };
  const sy = numbers(c.sigma_y_px), sx = numbers(c.sigma_x_px);
  field.sigma = sy.map((value, i) => Math.hypot(value, sx[i]) / Math.SQRT2);
  (c.latents ?? []).forEach((values, k) => { field[`z${k + 1}`] = numbers(values); });
  if (c.angle_rad) field.angle = numbers(c.angle_rad);
  const symmetry = c.symmetry ? Int16Array.from(c.symmetry) : null;
  const failed = c.fit_ok.filter((ok) => !ok).length;
  return { answer, n: c.y_px.length, failed, error: medianError({ raw: c }, [...c.y_px.keys()]), field, symmetry, fold: symmetry ? commonest(symmetry, field.angle) : 1, raw: c, spacing: spacing(field, answer) };
}

function commonest(symmetry, angle) {
  const counts = new Map();
  symmetry.forEach((n, i) => { if (!Number.isNaN(angle[i])) counts.set(n, (counts.get(n) ?? 0) + 1); });
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 1;
}

/** Median distance to the nearest neighbour of up to 400 columns [px], by a grid. */
function spacing({ y, x }, { height, width }) {
  const n = y.length;
  if (n < 2) return Math.min(height, width) / 10;
  const cell = Math.sqrt((height * width) / n) * 1.5, cols = Math.ceil(width / cell) + 1, grid = new Map();
  const key = (i) => Math.floor(y[i] / cell) * cols + Math.floor(x[i] / cell);
  for (let i = 0; i < n; i++) { const k = key(i); if (!grid.has(k)) grid.set(k, []); grid.get(k).push(i); }
  const found = [];
  for (let i = 0; i < n; i += Math.max(1, Math.floor(n / 400))) {
    let best = Infinity;
    const k = key(i);
    for (const step of [-cols - 1, -cols, -cols + 1, -1, 0, 1, cols - 1, cols, cols + 1])
      for (const j of grid.get(k + step) ?? []) if (j !== i) best = Math.min(best, Math.hypot(y[i] - y[j], x[i] - x[j]));
    if (best < Infinity) found.push(best);
  }
  return found.sort((a, b) => a - b)[found.length >> 1] ?? cell;
}

/** Median standard error per axis over those of `members` whose fit held [px], as the report has it; NaN where none did. */
export function medianError({ raw }, members) {
  const all = members.filter((i) => raw.fit_ok[i]).flatMap((i) => [raw.sigma_y_px[i], raw.sigma_x_px[i]]).filter(Number.isFinite).sort((a, b) => a - b);
  return all.length ? (all[(all.length - 1) >> 1] + all[all.length >> 1]) / 2 : NaN;
}

/** [low, high] of a field: the 1st and 99th percentile of what is finite; an angle's whole turn. Kept with the frame. */
export function limits(frame, name) {
  if (name === "angle") return [-Math.PI, Math.PI];
  frame.limits ??= new Map();
  if (!frame.limits.has(name)) frame.limits.set(name, found(frame, name));
  return frame.limits.get(name);
}

function found(frame, name) {
  const sorted = frame.field[name]?.filter(Number.isFinite).sort() ?? [];
  if (!sorted.length) return [0, 1];
  const low = sorted[Math.floor(0.01 * (sorted.length - 1))], high = sorted[Math.ceil(0.99 * (sorted.length - 1))];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

/** Step of a 256-step colour map for each column, 256 where there is no value. An angle's colours go round as often as its symmetry says. */
export function steps(frame, name) {
  const values = frame.field[name], out = new Uint16Array(frame.n).fill(256);
  if (!values) return out;
  const [low, high] = limits(frame, name);
  for (let i = 0; i < frame.n; i++) {
    const value = values[i];
    if (Number.isNaN(value)) continue;
    if (name === "angle") {
      const turns = (value * frame.symmetry[i]) / (2 * Math.PI);
      out[i] = Math.floor((turns - Math.floor(turns)) * 256) & 255;
    } else out[i] = Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
  }
  return out;
}

/** Which columns lie inside a polygon [[x, y], …] over two fields. */
export function inside(frame, xName, yName, polygon) {
  const xs = frame.field[xName], ys = frame.field[yName], out = new Uint8Array(frame.n);
  if (!xs || !ys || polygon.length < 3) return out;
  let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
  for (const [x, y] of polygon) { left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y); }
  for (let i = 0; i < frame.n; i++) {
    const x = xs[i], y = ys[i];
    if (!(x >= left && x <= right && y >= low && y <= high)) continue;
    let odd = 0;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [xa, ya] = polygon[a], [xb, yb] = polygon[b];
      if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) odd ^= 1;
    }
    out[i] = odd;
  }
  return out;
}
