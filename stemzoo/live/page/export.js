// What leaves the page: the view as a PNG, columns as a CSV with the fields of columns.csv. Runs in the browser alone.
import { FACE } from "./views.js";

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** What a file that leaves the page is called; a frame of a stack has its number. */
const stem = (name, frame) => (name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_.-]+/gu, "_") || "frame") + (frame ? `_${frame}` : "");

/** All panels as they are on the screen, with the frame's name and numbers above. */
export async function png(news, numbers, doubts) {
  const ratio = window.devicePixelRatio || 1, main = document.querySelector("main").getBoundingClientRect(), head = doubts ? 58 : 44;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = Math.round(main.width * ratio); canvas.height = Math.round((main.height + head) * ratio);
  context.scale(ratio, ratio);
  context.fillStyle = "#0b0e11";
  context.fillRect(0, 0, main.width, main.height + head);
  context.fillStyle = "#e9edf1";
  context.font = `600 16px ${FACE}`;
  const name = document.getElementById("name").textContent;
  context.fillText(name, 2, 26);
  const after = context.measureText(name).width;
  context.fillStyle = "#93a0ad";
  context.font = `13px ${FACE}`;
  context.fillText(numbers, after + 22, 26);
  if (doubts) {
    context.fillStyle = "#ff6b6b";
    context.fillText(doubts, 2, 45, main.width - 4);
  }
  for (const card of document.querySelectorAll("main .card")) {
    const box = card.getBoundingClientRect(), x = box.left - main.left, y = box.top - main.top + head;
    context.fillStyle = "#12161b";
    context.beginPath(); context.roundRect(x, y, box.width, box.height, 8); context.fill();
    context.fillStyle = "#e9edf1";
    context.font = `600 13px ${FACE}`;
    context.fillText(card.querySelector("h2").textContent, x + 12, y + 23);
    for (const part of card.querySelectorAll(".view canvas, #chosen canvas")) {
      const at = part.getBoundingClientRect();
      context.globalAlpha = Number(getComputedStyle(part).opacity);
      if (part.width && part.height) context.drawImage(part, at.left - main.left, at.top - main.top + head, at.width, at.height);
      context.globalAlpha = 1;
    }
    context.fillStyle = "#93a0ad";
    context.font = `12.5px ${FACE}`;
    for (const text of card.querySelectorAll("#chosen p, #chosen th, #chosen td")) {
      const at = text.getBoundingClientRect();
      if (at.height < 40) context.fillText(text.textContent, at.left - main.left, at.bottom - main.top + head - 5);
    }
  }
  save(`${stem(news.name, news.frame)}_live.png`, await new Promise((done) => canvas.toBlob(done, "image/png")));
}

/** The frame's columns, all or the chosen ones, with the fields of columns.csv. */
export function csv(frame, chosen, onlyChosen) {
  const { answer, raw } = frame, latents = raw.latents ?? [], size = answer.pixel_size;
  const header = ["frame", "column", "y_px", "x_px", "y_A", "x_A", "sigma_y_px", "sigma_x_px", "species", "intensity", "confidence", "fit_ok"];
  if (raw.angle_rad) header.push("angle_rad", ...latents.map((_, k) => `z${k + 1}`));
  const cell = (value) => (value === null || value === undefined ? "" : /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  const lines = [header.join(",")];
  for (let i = 0; i < frame.n; i++) {
    if (onlyChosen && !chosen?.[i]) continue;
    const row = [answer.frames[0].frame, i, raw.y_px[i], raw.x_px[i], size ? (raw.y_px[i] * size).toFixed(6) : "", size ? (raw.x_px[i] * size).toFixed(6) : ""];
    row.push(raw.sigma_y_px[i], raw.sigma_x_px[i], answer.classes[raw.species[i]], raw.intensity[i], raw.confidence[i], raw.fit_ok[i] ? 1 : 0);
    if (raw.angle_rad) row.push(raw.angle_rad[i], ...latents.map((values) => values[i]));
    lines.push(row.map(cell).join(","));
  }
  save(`${stem(answer.name, answer.frames[0].frame)}${onlyChosen ? "_selection" : "_columns"}.csv`, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
}
