// Results side by side, of which a click takes one: several strengths, or the same edit from several seeds.
import { $, el, say, toast } from "./dom.js";
import { events } from "./api.js";
import { engine } from "./engine.js";
import { changesNothing, locates, usual, why } from "./stack.js";
import { t } from "./texts.js";
import { work } from "./work.js";

const FACTORS = [0.5, 0.75, 1, 1.5, 2];
const FOCUS = [0.6, 0.75, 0.9];
const SEEDS = 4;
let controller = null;

export function start() {
  $("sheet-button").addEventListener("click", () => open("strengths", strengths));
  $("variations-button").addEventListener("click", () => open("variations", variations));
  $("sheet").addEventListener("close", () => controller?.abort());
}

async function open(name, fill) {
  const { picture } = work;
  const request = picture && engine.request(picture);
  if (!request) return;
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  try {
    const now = await engine.editOther(picture);
    if (signal.aborted) return;
    $("sheet-title").textContent = t(name);
    $("sheet-text").textContent = t(`${name}_why`);
    $("sheet-grid").replaceChildren();
    $("sheet-made").textContent = "";
    $("sheet").showModal();
    const heard = now.idle.filter((_, k) => !request.edits[k].muted);
    if (heard.every(changesNothing)) nothing(heard);
    else await fill(picture, request, now, signal);
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, { error: true });
  }
}

/** Say why all of them would be the same, instead of making them. */
function nothing(idle) {
  $("sheet-text").textContent = t("idle_sheet");
  $("sheet-grid").replaceChildren(...idle.map((reason) => el("p", { class: "note", role: "alert" }, why(reason))));
}

const cell = (label, shown, take) => el("button", { class: "cell", type: "button", disabled: true, "aria-label": label, onclick: () => { $("sheet").close(); take(); } }, el("span", {}, shown));
const row = (columns, ...cells) => {
  const element = el("div", { class: "sheet-row" }, ...cells);
  element.style.setProperty("--columns", columns);
  return element;
};

function arrived(place, src, made, all) {
  place.prepend(el("img", { src, alt: "" }));
  place.disabled = false;
  count(made, all);
  say(t("made_of", { made, all }));
}

/** How many there are by now: fifteen take a while. */
function count(made, all) { $("sheet-made").textContent = made < all ? t("made_of", { made, all }) : ""; }

async function strengths(picture, request, now, signal) {
  const heard = work.now.edits.filter((edit) => !edit.muted);
  const normal = heard[0].scale ?? usual(heard[0]);
  const scales = FACTORS.map((factor) => Math.max(0.1, Math.round(factor * normal * 10) / 10));
  // A painted region is filled. Elsewhere, where the method finds regions by itself, a threshold takes a share instead.
  const painted = heard.every((edit) => edit.regions[picture.key]);
  const thresholds = painted ? [null] : locates() ? [null, 0.75, 0.9] : FOCUS;
  const named = (threshold) => (threshold === null ? t(painted ? "painted_row" : "strength_row") : t("focus_row", { value: threshold }));
  const take = (scale, threshold) => work.change((next) => {
    for (const edit of next.edits) if (!edit.muted) Object.assign(edit, { scale, threshold: threshold ?? edit.threshold });
  });
  const cells = thresholds.map((threshold) => scales.map((scale) => cell(t("cell", { scale, row: named(threshold) }), String(scale), () => take(scale, threshold))));
  $("sheet-grid").replaceChildren(...cells.flatMap((line, k) => [el("h3", {}, named(thresholds[k])), row(scales.length, ...line)]));
  count(0, scales.length * thresholds.length);
  const { id } = await engine.invert(picture);
  let made = 0;
  for await (const [name, data] of events(`/v1/inversions/${id}/sheets`, { ...request, scales, thresholds }, signal)) {
    if (name === "cell") arrived(cells[data.row][data.column], `data:image/jpeg;base64,${data.image}`, made += 1, scales.length * thresholds.length);
  }
}

async function variations(picture, request, now, signal) {
  const { seed } = now.recipe.settings;
  // The first is what there is, whoever chose its seed.
  const seeds = Array.from({ length: SEEDS }, (_, k) => (k ? seed + k : work.now.settings.seed));
  const cells = seeds.map((value, k) => cell(t("variation", { number: k + 1, seed: seed + k }), String(k + 1), () => work.change((next) => { next.settings.seed = value; })));
  $("sheet-grid").replaceChildren(row(SEEDS, ...cells));
  count(0, SEEDS);
  for (const [k, value] of seeds.entries()) {
    const { url } = await engine.variation(picture, value, signal);
    if (signal.aborted) return;
    arrived(cells[k], url, k + 1, SEEDS);
  }
}
