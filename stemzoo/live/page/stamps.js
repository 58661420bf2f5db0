// Disks and rings by the thousand: a mask a radius, copied pixel by pixel, which is many times faster than paths. Owns masks and pixels.
const PHASES = 4; // positions along a pixel that a mask is kept for
export const LARGEST = 24; // radius in pixels of the screen; beyond it few columns are in view, and paths do as well

const held = new Map();

/** Masks of a disk, or of a ring `line` wide, around PHASES² points of the pixel in their middle: {side, reach, alpha: [Uint8Array]}. */
function masks(radius, line) {
  const [r, w] = [Math.max(0.5, Math.round(8 * radius) / 8), Math.round(8 * line) / 8], key = `${r},${w}`;
  if (held.has(key)) return held.get(key);
  const outer = r + w / 2, inner = w ? r - w / 2 : -1, reach = Math.ceil(outer + 1), side = 2 * reach + 1, alpha = [];
  for (let phase = 0; phase < PHASES * PHASES; phase++) {
    const one = new Uint8Array(side * side), x0 = reach + ((phase % PHASES) + 0.5) / PHASES - 0.5, y0 = reach + (Math.floor(phase / PHASES) + 0.5) / PHASES - 0.5;
    for (let k = 0; k < one.length; k++) {
      const d = Math.hypot((k % side) - x0, Math.floor(k / side) - y0);
      one[k] = Math.round(255 * Math.min(Math.max(outer + 0.5 - d, 0), Math.max(d - inner + 0.5, 0), 1));
    }
    alpha.push(one);
  }
  if (held.size > 64) held.clear();
  held.set(key, { side, reach, alpha });
  return held.get(key);
}

/** A colour [r, g, b] as a word of ImageData, without opacity. */
export const word = ([r, g, b]) => (b << 16) | (g << 8) | r;

/** The pixels of one canvas, drawn on by `put` between `begin` and `end`. Sizes and places are in pixels of the canvas. */
export class Stamps {
  begin(context, radius, line, strength, [left, top, right, bottom], keep) {
    const { width, height } = context.canvas;
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = new ImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    } else if (!keep) this.words.fill(0);
    this.context = context; this.mask = masks(radius, line); this.strength = strength; this.width = width;
    this.left = Math.max(0, Math.round(left)); this.right = Math.min(width, Math.round(right));
    this.top = Math.max(0, Math.round(top)); this.bottom = Math.min(height, Math.round(bottom));
  }

  put(x, y, rgb) {
    const { words, width, strength, mask: { side, reach, alpha } } = this, xi = Math.floor(x), yi = Math.floor(y);
    const mask = alpha[Math.floor((y - yi) * PHASES) * PHASES + Math.floor((x - xi) * PHASES)], x0 = xi - reach, y0 = yi - reach;
    const first = Math.max(0, this.left - x0), last = Math.min(side, this.right - x0), opaque = 0xff000000 | rgb;
    for (let row = Math.max(0, this.top - y0); row < Math.min(side, this.bottom - y0); row++) {
      for (let col = first, from = row * side + first, to = (y0 + row) * width + x0 + first; col < last; col++, from++, to++) {
        if (!mask[from]) continue;
        const a = mask[from] * strength;
        words[to] = a > 254 ? opaque : over(words[to], rgb, a / 255);
      }
    }
  }

  end() { this.context.putImageData(this.image, 0, 0); }
}

/** Colour `rgb` of opacity a in 0–1 over what is there. */
function over(below, rgb, a) {
  const under = (below >>> 24) / 255, rest = under * (1 - a), whole = a + rest, mix = (shift) => Math.round((((rgb >>> shift) & 255) * a + ((below >>> shift) & 255) * rest) / whole);
  return (Math.round(255 * whole) << 24) | (mix(16) << 16) | (mix(8) << 8) | mix(0);
}
