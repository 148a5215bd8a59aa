// Find the strength: the edits at several scales and thresholds, from one inversion. A click takes one.
import { $, el, say, toast } from "./dom.js";
import { events } from "./api.js";
import { engine } from "./engine.js";
import { locates, usual } from "./stack.js";
import { work } from "./work.js";

const FACTORS = [0.5, 0.75, 1, 1.5, 2];
const FOCUS = [0.6, 0.75, 0.9];
let controller = null;

export function start() {
  $("sheet-button").addEventListener("click", open);
  $("sheet").addEventListener("close", () => controller?.abort());
}

async function open() {
  const picture = work.picture;
  const request = engine.request(picture);
  if (!request) return;
  const heard = work.now.edits.find((edit) => !edit.muted);
  const normal = heard.scale ?? usual(heard);
  const scales = FACTORS.map((factor) => Math.max(0.1, Math.round(factor * normal * 10) / 10));
  // Where the method finds the regions by itself, a threshold takes a share of the picture instead.
  const thresholds = locates() ? [null, 0.75, 0.9] : FOCUS;
  const cells = thresholds.map((threshold) => scales.map((scale) => {
    const label = `strength ${scale}, ${threshold === null ? "region found" : `focus ${threshold}`}`;
    return el("button", { class: "cell", type: "button", disabled: true, "aria-label": label, onclick: () => take(scale, threshold) }, el("span", {}, String(scale)));
  }));
  $("sheet-grid").style.setProperty("--columns", scales.length);
  $("sheet-grid").replaceChildren(...cells.flatMap((row, k) => [
    el("h3", {}, thresholds[k] === null ? "Region found by itself" : `Focus ${thresholds[k]}`), el("div", { class: "sheet-row" }, ...row),
  ]));
  $("sheet").showModal();
  controller = new AbortController();
  const { signal } = controller;
  try {
    const inversion = await engine.invert(picture);
    let made = 0;
    for await (const [name, data] of events(`/v1/inversions/${inversion.id}/sheets`, { ...request, scales, thresholds }, signal)) {
      if (name !== "cell") continue;
      const cell = cells[data.row][data.column];
      cell.prepend(el("img", { src: `data:image/jpeg;base64,${data.image}`, alt: "" }));
      cell.disabled = false;
      made += 1;
      say(`${made} of ${scales.length * thresholds.length} strengths`);
    }
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, { error: true });
  }
}

function take(scale, threshold) {
  $("sheet").close();
  work.change((next) => {
    for (const edit of next.edits) if (!edit.muted) Object.assign(edit, { scale, threshold: threshold ?? edit.threshold });
  });
}
