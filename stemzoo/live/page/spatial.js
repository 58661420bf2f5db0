// The scan, and maps of a field over it. Owns what they look like: the picture below, scale bar, wheel of angles.
import { CHOSEN, FACE, MUTED, PANEL, View } from "./views.js";

/** [canvas, width, height] of the picture, halved as often as leaves it no smaller than it is shown: made once, since halving takes a while. */
function shrunk(picture, scale) {
  picture.halves ??= [[picture.canvas, picture.width, picture.height]];
  let level = 0;
  for (; scale <= 0.5; scale *= 2, level++) {
    if (picture.halves[level + 1]) continue;
    const [from, width, height] = picture.halves[level], half = document.createElement("canvas"), context = half.getContext("2d");
    half.width = Math.ceil(width / 2); half.height = Math.ceil(height / 2);
    context.drawImage(from, 0, 0, width, height, 0, 0, width / 2, height / 2);
    picture.halves.push([half, width / 2, height / 2]);
  }
  return picture.halves[level];
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
    const [canvas, width, height] = shrunk(picture, this.ax * picture.step * this.ratio);
    context.drawImage(canvas, 0, 0, width, height, x, y, picture.width * picture.step * this.ax, picture.height * picture.step * this.ay);
    this.scaleBar(context, size);
  }

  paint_points(context) {
    if (this.isScan && !this.app.columnsShown) return;
    if (this.lacks(this.field())) { this.missing(context, this.field()); return; }
    const radius = this.radius(), found = this.field() === "found";
    this.disks(context, this.field(), radius, { line: found && radius > 3.2 ? 1.5 : 0 });
  }

  /** On the scan, chosen columns are amber, whatever the others are painted by. */
  lit(context, radius, chosen) {
    if (!this.isScan) { if (!this.lacks(this.field())) super.lit(context, radius, chosen); }
    else if (this.app.columnsShown) this.disks(context, this.field(), Math.max(1.15 * radius, 1.8), { pick: chosen, colour: CHOSEN });
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
