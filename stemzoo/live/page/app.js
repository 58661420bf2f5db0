// The live page: follows the server's news, shows one frame, links what is chosen in one panel to all others. Owns the page's state.
import * as api from "./api.js";
import * as panels from "./panels.js";
import * as exporting from "./export.js";
import { inside, label, limits, unpack } from "./frame.js";
import { ScatterView } from "./scatter.js";
import { SpatialView } from "./spatial.js";
import { Camera, FADED } from "./views.js";

const $ = (id) => document.getElementById(id);
const KEPT = 16; // frames whose picture and columns stay in the browser

const app = {
  frame: null, picture: null, size: { width: 1, height: 1 }, pixelSize: null, maps: null, columnsShown: true,
  chosen: null, brushes: [], pointed: -1, news: new Map(), shownId: 0, live: true, cache: new Map(), wanted: 0, loading: false,

  /** Take a lasso over two fields as the choice, or add it; it stays a rule, so that it holds for the next frame too. */
  choose(brush, add, final) {
    const before = add ? app.brushes : [];
    app.chosen = mask([...before, brush]);
    if (final) app.brushes = [...before, brush];
    light(final);
  },
  clear() { app.brushes = []; app.chosen = null; light(true); },
  hover(i) {
    if (i === app.pointed) return;
    app.pointed = i;
    views.forEach((view) => view.touch("light"));
    $("hover").textContent = i < 0 || !app.frame ? "" : describe(i);
  },
  moved(camera) { views.filter((view) => view.camera === camera).forEach((view) => view.touch("ground", "points", "light")); },
};

const plane = new Camera();
const scan = new SpatialView($("scan"), app, plane, () => $("paint").value || "found", true);
const angle = new SpatialView($("angle"), app, plane, "angle", false);
const z1 = new SpatialView($("z1"), app, plane, "z1", false);
const z2 = new SpatialView($("z2"), app, plane, "z2", false);
const scatter = new ScatterView($("scatter"), app, new Camera());
const views = [scan, angle, z1, z2, scatter];

function mask(brushes) {
  if (!app.frame || !brushes.length) return null;
  const masks = brushes.map((brush) => inside(app.frame, brush.x, brush.y, brush.polygon));
  return masks.length === 1 ? masks[0] : masks[0].map((_, i) => (masks.some((one) => one[i]) ? 1 : 0));
}

function light(final) {
  views.forEach((view) => { view.touch("light"); view.points.canvas.style.opacity = app.chosen ? FADED : 1; });
  $("clear").hidden = !app.chosen;
  $("csv-selected").disabled = !app.chosen;
  if (final || !light.pending) {
    light.pending = true;
    setTimeout(() => { light.pending = false; panels.chosen($("chosen"), app); }, final ? 0 : 120);
  }
}

function describe(i) {
  const { field, symmetry } = app.frame, parts = [`column ${i}`, `y ${field.y[i].toFixed(2)}  x ${field.x[i].toFixed(2)} ± ${field.sigma[i].toFixed(3)} px`];
  if (!app.frame.raw.fit_ok[i]) parts.push("fit failed");
  if (field.angle && Number.isFinite(field.angle[i])) parts.push(`${((field.angle[i] * 180) / Math.PI).toFixed(1)}°${symmetry[i] > 1 ? ` mod ${+(360 / symmetry[i]).toFixed(0)}°` : ""}`);
  for (const name of ["z1", "z2"]) if (field[name] && Number.isFinite(field[name][i])) parts.push(`${name} ${field[name][i].toFixed(2)}`);
  return parts.join(" · ").replaceAll("-", "−");
}

function toast(text, note = false) {
  const line = document.createElement("p");
  line.textContent = text;
  if (note) line.className = "note";
  for (const said of [...$("toasts").children]) if (said.textContent === text) said.remove();
  $("toasts").append(line);
  while ($("toasts").children.length > 4) $("toasts").firstChild.remove();
  setTimeout(() => line.remove(), 9000);
}

/** Why there is nothing to show of a file; most reasons name it themselves. */
const refusal = ({ name, why }) => (why.startsWith(`${name}: `) ? why : `${name}: ${why}`);

/** Offer the fields that the frame has, keeping what the user chose where it is still there. */
function offer() {
  const fields = Object.keys(app.frame.field).filter((name) => !["x", "y", "species"].includes(name));
  const order = ["angle", ...fields.filter((name) => /^z\d/.test(name)), "sigma", "intensity", "confidence"].filter((name) => fields.includes(name));
  for (const [id, names, first] of [["paint", ["found", ...order], "found"], ["x", [...order], "z1"], ["y", [...order], "z2"], ["hue", [...order], "angle"]]) {
    const select = $(id), before = select.dataset.touched ? select.value : first;
    if ([...select.options].map((option) => option.value).join() === names.join()) continue;
    select.replaceChildren(...names.map((name) => new Option(label(name), name)));
    select.value = names.includes(before) ? before : names[Math.min(id === "y" ? 1 : 0, names.length - 1)];
  }
  [scatter.xName, scatter.yName, scatter.hue] = [$("x").value, $("y").value, $("hue").value];
}

function show(entry, news) {
  const sizeChanged = entry.picture && (app.size.width !== news.width || app.size.height !== news.height);
  app.picture = entry.picture; app.frame = entry.frame; app.shownId = news.id; app.size = { width: news.width, height: news.height };
  app.pixelSize = entry.frame?.answer.pixel_size ?? null;
  if (sizeChanged) plane.reset();
  app.hover(-1); // what was pointed at belongs to the frame before
  if (app.frame) offer();
  app.chosen = mask(app.brushes);
  $("name").textContent = news.name + (news.frame ? `, frame ${news.frame}` : "");
  $("name").title = news.name;
  say(app.frame?.answer);
  numbers(news);
  if (app.frame) {
    panels.stages($("stages"), app.frame.answer.seconds);
    for (const name of ["z1", "z2"]) if (app.frame.field[name]) panels.colourBar($(`${name}-scale`), app.maps.latent, ...limits(app.frame, name)); else $(`${name}-scale`).replaceChildren();
    const { encoder } = app.frame.answer, turns = app.frame.fold > 1 ? [`mod ${+(360 / app.frame.fold).toFixed(0)}°`] : [];
    $("fold").textContent = $("fold").title = encoder ? [encoder, ...turns].join(" · ") : "no encoder";
  }
  views.forEach((view) => view.touch("ground", "points", "light"));
  $("welcome").hidden = true;
  light(true);
  series();
}

/** Say what speaks against the frame's result, and offer all that is to be said of it. */
function say(answer) {
  const doubts = answer?.doubts ?? [], notices = answer?.notices ?? [], all = doubts.length + notices.length;
  $("said").hidden = !all;
  $("doubts").textContent = doubts.length ? `Do not trust this unseen. ${doubts.join(" ")}` : "";
  $("notes").textContent = all === 1 ? "1 note" : `${all} notes`;
  panels.sentences($("sentences"), doubts, notices);
}

function numbers(news) {
  const { frame, pixelSize } = app, rows = [];
  rows.push([frame ? frame.n.toLocaleString("en") : "…", "", "columns"]);
  if (frame?.n) rows.push([...panels.error(frame.error, pixelSize), "median error"]);
  if (frame?.failed) rows.push([frame.failed.toLocaleString("en"), "", frame.failed === 1 ? "fit failed" : "fits failed"]);
  if (frame?.n > 1) rows.push(pixelSize ? [(frame.spacing * pixelSize).toFixed(2), "Å", "spacing"] : [frame.spacing.toFixed(1), "px", "spacing"]);
  rows.push([`${news.height} × ${news.width}`, pixelSize ? `${+pixelSize.toPrecision(3)} Å/px` : "px", "frame"]);
  rows.push([news.seconds ? panels.time(news.seconds) : "…", "", "per frame"]);
  rows.push(app.rate ? [app.rate.toFixed(app.rate >= 10 ? 0 : 2), "/s", "frames"] : ["–", "", "frames/s"]);
  if (app.waiting > 1) rows.push([String(app.waiting - 1), "", "waiting"]);
  panels.head($("numbers"), rows);
}

function series() {
  const all = [...app.news.values()], at = all.findIndex((news) => news.id === app.shownId);
  const slider = $("series");
  slider.max = Math.max(0, all.length - 1);
  slider.value = at < 0 ? slider.max : at;
  $("where").textContent = all.length ? `${at + 1} of ${all.length}` : "";
  $("live").setAttribute("aria-pressed", app.live);
  panels.spark($("spark"), all, app.shownId);
  const busy = all.some((news) => news.state === "analysing" || news.state === "located");
  if ($("state").className !== "off") $("state").className = busy ? "busy" : "on";
}

/** Load and show the frame that is wanted now; news that come meanwhile are looked at when that is done. */
async function load() {
  if (app.loading) return;
  app.loading = true;
  try {
    for (let id = 0; app.wanted && (id !== app.wanted || app.stale);) {
      id = app.wanted;
      app.stale = false;
      const news = app.news.get(id);
      if (!news || news.state === "failed") break;
      const entry = app.cache.get(id) ?? {};
      if (!entry.picture) { entry.picture = drawn(await api.picture(id)); app.cache.set(id, entry); if (id === app.wanted && news.state === "analysing") show(entry, news); }
      if (news.state !== "analysing" && entry.state !== news.state) { entry.frame = unpack(await api.columns(id)); entry.state = news.state; }
      for (const old of app.cache.keys()) { if (app.cache.size <= KEPT) break; if (old !== id) app.cache.delete(old); }
      if (id === app.wanted) show(entry, app.news.get(id) ?? news);
    }
  } catch (error) {
    if (error.status !== 404) toast(error.message);
  } finally { app.loading = false; }
}

function drawn(picture) {
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = picture.width; canvas.height = picture.height;
  const image = context.createImageData(picture.width, picture.height), words = new Uint32Array(image.data.buffer);
  for (let k = 0; k < words.length; k++) { const g = picture.grey[k]; words[k] = 0xff000000 | (g << 16) | (g << 8) | g; }
  context.putImageData(image, 0, 0);
  return { ...picture, canvas };
}

function want(id) { app.wanted = id; app.stale = true; load(); }

function heard(frames) {
  if (frames.length !== 1) app.news.clear();
  for (const news of frames) {
    app.news.set(news.id, news);
    if (news.state === "failed" && frames.length === 1) toast(refusal(news));
  }
  while (app.news.size > 64) app.news.delete(app.news.keys().next().value);
  const usable = [...app.news.values()].filter((news) => news.state !== "failed");
  if (usable.length && (app.live || !app.shownId)) want(usable.at(-1).id);
  else if (frames.some((news) => news.id === app.shownId)) want(app.shownId);
  series();
}

async function sendAll(files) {
  for (const file of files) {
    try { await api.send(file, $("pixel-size").value.trim().replace(",", ".")); } catch (error) { toast(refusal({ name: file.name, why: error.message })); }
  }
}

/** Go to the last frame, or one back or on; frames that failed have nothing to show and are stepped over. */
function go(step) {
  const ids = [...app.news.values()].filter((news) => news.state !== "failed").map((news) => news.id), at = ids.indexOf(app.shownId);
  const next = ids[Math.max(0, Math.min(ids.length - 1, (step === Infinity ? ids.length - 1 : at + step)))];
  app.live = next === ids.at(-1) && step > 0;
  if (next) want(next);
  series();
}

$("series").addEventListener("input", (event) => {
  const news = [...app.news.values()], there = news[event.target.value];
  if (there?.state === "failed") toast(refusal(there)); else if (there) { app.live = there === news.at(-1); want(there.id); }
  series();
});
$("live").addEventListener("click", () => { app.live = !app.live; if (app.live) go(Infinity); series(); });
for (const id of ["paint", "x", "y", "hue"]) $(id).addEventListener("change", (event) => {
  event.target.dataset.touched = "yes";
  [scatter.xName, scatter.yName, scatter.hue] = [$("x").value, $("y").value, $("hue").value];
  if (id === "x" || id === "y") { scatter.camera.reset(); }
  views.forEach((view) => view.touch("ground", "points", "light"));
});
$("show-columns").addEventListener("change", (event) => { app.columnsShown = event.target.checked; scan.touch("points"); });
$("clear").addEventListener("click", () => app.clear());
$("open").addEventListener("change", (event) => { sendAll([...event.target.files]); event.target.value = ""; });
$("demo").addEventListener("click", async (event) => {
  event.target.disabled = true;
  try { await api.demo(); } catch (error) { toast(error.message); } finally { event.target.disabled = false; }
});
$("png").addEventListener("click", () => { exporting.png(app.news.get(app.shownId), [...$("numbers").children].map((cell) => `${cell.querySelector("dt").textContent} ${cell.querySelector("dd").textContent}`).join("   "), $("doubts").textContent); $("export").open = false; });
$("csv").addEventListener("click", () => { if (app.frame) exporting.csv(app.frame, app.chosen, false); $("export").open = false; });
$("csv-selected").addEventListener("click", () => { if (app.frame) exporting.csv(app.frame, app.chosen, true); $("export").open = false; });
addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
  if (event.key === "Escape") { app.clear(); $("export").open = $("said").open = false; }
  if (event.key === "ArrowLeft" && event.target.id !== "series") go(-1);
  if (event.key === "ArrowRight" && event.target.id !== "series") go(1);
  if ((event.key === "Enter" || event.key === " ") && event.target.matches("label.button")) $("open").click();
});
let over = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); over++; $("drop").hidden = false; });
addEventListener("dragleave", () => { if (--over <= 0) { over = 0; $("drop").hidden = true; } });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); over = 0; $("drop").hidden = true; sendAll([...event.dataTransfer.files]); });
addEventListener("resize", series);

app.maps = await api.colours();
setInterval(async () => {
  if (document.hidden) return;
  try { const said = await api.health(); app.rate = said.frames_per_second; app.waiting = said.waiting; } catch { return; }
  const news = app.news.get(app.shownId);
  if (news) numbers(news);
}, 1000);
window.stemzoo = { app, views: { scan, angle, z1, z2, scatter }, ready: true };
api.listen(heard, (state, why) => {
  $("state").className = state;
  $("state").title = state === "on" ? "connected" : "no connection to the server";
  $("lost").hidden = state === "on";
  document.body.classList.toggle("lost", state !== "on");
  if (why) toast(why);
});
