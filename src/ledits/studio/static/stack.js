// The edit stack: a card for each edit, in the order in which they act.
import { $, el, icon } from "./dom.js";
import { brush } from "./brush.js";
import { engine } from "./engine.js";
import { stage } from "./stage.js";
import * as targets from "./targets.js";
import { t } from "./texts.js";
import { named, newEdit, whole, work } from "./work.js";
import { report } from "./words.js";

const KINDS = ["add", "remove", "swap", "become"];
const HINTS = { add: [null, "hint_add"], remove: ["hint_remove", null], swap: ["hint_old", "hint_new"], become: [null, "hint_become"] };
// The share of the picture that is left alone: a style changes half of it, a face's feature a twentieth.
const PRESETS = [["everything", 0], ["style", 0.5], ["object", 0.9], ["face", 0.95]];

const cards = new Map();
let defaults = {}; // of the model
let captioned = () => false;

export function start(options) {
  ({ captioned } = options);
  work.addEventListener("change", () => draw());
  engine.addEventListener("result", () => draw());
  targets.start(() => draw());
  document.addEventListener("painting", () => draw());
  document.addEventListener("language", () => {
    for (const { element } of cards.values()) element.remove();
    cards.clear();
  });
  for (const button of document.querySelectorAll("[data-add]")) {
    button.addEventListener("click", () => add([newEdit(button.dataset.add)], true));
  }
}

export function use(values) {
  defaults = values;
  draw();
}

export function add(edits, focus = false) {
  work.change((next) => next.edits.push(...edits));
  const card = cards.get(edits.at(-1).key);
  card.element.scrollIntoView({ block: "nearest" }); // at once: why it was refused may be scrolled to next
  if (focus) card.element.querySelector(".words input:not([hidden])").focus();
}

export function remove(key) {
  const at = work.now.edits.findIndex((edit) => edit.key === key);
  work.change((next) => next.edits.splice(at, 1));
  const next = work.now.edits[Math.min(at, work.now.edits.length - 1)];
  (next ? cards.get(next.key).element.querySelector(".words input:not([hidden])") : $("instruction")).focus();
}

/** Why an edit did nothing, as a sentence; and whether that is for sure. */
export const why = (reason) => t(`idle_${reason.why}`, { other: reason.other });
export const changesNothing = (reason) => reason !== null && reason.why !== "contradicts";

/** Whether regions are found by themselves: with a caption, and by words where the model is tuned to it. */
export const locates = () => captioned() || "located_scale" in defaults;

/** The strength that an edit has where none is set. */
export function usual(edit) {
  if (captioned()) return defaults.described_scale ?? 2;
  if (locates()) return defaults.located_scale;
  return defaults[`${edit.kind === "swap" ? "swap_new" : edit.kind}_scale`] ?? defaults.scale ?? 7;
}

function move(key, by) {
  work.change((next) => {
    const at = next.edits.findIndex((edit) => edit.key === key);
    const to = Math.max(0, Math.min(next.edits.length - 1, at + by));
    next.edits.splice(to, 0, ...next.edits.splice(at, 1));
  });
}

function draw() {
  const { edits } = work.now;
  for (const [key, card] of cards) {
    if (edits.some((edit) => edit.key === key)) continue;
    card.element.remove();
    cards.delete(key);
  }
  edits.forEach((edit, index) => {
    if (!cards.has(edit.key)) cards.set(edit.key, build(edit.key));
    const { element, update } = cards.get(edit.key);
    if ($("stack").children[index] !== element) $("stack").insertBefore(element, $("stack").children[index] ?? null);
    update(edit, index);
  });
  $("stack").hidden = !edits.length;
}

function build(key) {
  const now = () => work.now.edits.find((edit) => edit.key === key);
  const set = (values, live = false) => work.edit(key, values, { live });
  const id = (name) => `${name}-${key}`;

  const kind = el("select", { "aria-label": t("kind"), onchange: () => set({ kind: kind.value }) },
    ...KINDS.map((value) => el("option", { value }, t(value))));
  const words = (name, label) => el("input", {
    "aria-label": label, spellcheck: "false", autocomplete: "off", maxlength: "300", list: "known-words",
    onchange: (event) => set({ [name]: event.target.value }),
    onkeydown: (event) => event.key === "Enter" && event.target.blur(),
  });
  const old = words("old", t("what_goes"));
  const fresh = words("new", t("what_comes"));
  const arrow = el("span", { class: "arrow", "aria-hidden": "true" }, "→");
  const all = el("span", { class: "whole" }, t("becomes"));
  const target = el("textarea", {  // it is as high as the caption is long
    class: "target", rows: "1", "aria-label": t("target"), title: t("target"), spellcheck: "false", autocomplete: "off", maxlength: "300",
    // A caption of one's own is an edit of the whole caption; its region stays.
    onchange: () => target.value.trim() && set({ kind: "become", old: "", new: target.value.trim() }),
    onkeydown: (event) => event.key === "Enter" && event.target.blur(),
  });
  const caption = el("div", { class: "line caption" }, el("span", { class: "label", "aria-hidden": "true" }, t("result")), target);
  const note = el("p", { class: "note", role: "alert", hidden: true });
  const idle = el("p", { class: "note", role: "alert", hidden: true });

  const handle = el("button", {
    class: "handle", type: "button", "aria-label": t("move"), title: t("drag_to_reorder"),
    onkeydown: (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(key, by);
      handle.focus();
    },
    onpointerdown: (event) => drag(event, key, element),
  }, icon("drag"));
  const mute = el("button", { class: "icon-button small", type: "button", onclick: () => set({ muted: !now().muted }) });
  const drop = el("button", { class: "icon-button small", type: "button", "aria-label": t("delete"), title: t("delete"), onclick: () => remove(key) }, icon("trash"));

  const scale = slider(t("strength"), id("scale"), 0.1, (value, live) => set({ scale: value }, live), () => set({ scale: null }));
  const threshold = slider(t("focus"), id("threshold"), 0.01, (value, live) => set({ threshold: value }, live), () => set({ threshold: null }),
    t("focus_why"));
  const step = (name, label) => el("input", {
    type: "number", min: "0", "aria-label": label, placeholder: t(name),
    onchange: (event) => set({ [name]: event.target.value === "" ? null : Math.max(0, Math.round(Number(event.target.value))) }),
  });
  const first = step("first", t("first_step"));
  const last = step("last", t("last_step"));
  const presets = PRESETS.map(([name, value]) => el("button", { class: "chip small", type: "button", onclick: () => set({ threshold: value }) }, t(name)));

  const swatch = el("img", { class: "swatch", alt: t("region_of") });
  const where = el("button", { class: "button small where", type: "button", onclick: () => (brush.edit === key ? brush.end() : brush.begin(key)) });
  const everywhere = el("button", {
    class: "icon-button small", type: "button", "aria-label": t("everywhere"), title: t("everywhere"),
    onclick: () => { const { [work.now.active]: _, ...regions } = now().regions; set({ regions }); },
  }, icon("reset"));
  const fine = el("details", { class: "fine" }, el("summary", {}, t("fine")),
    el("div", { class: "presets", role: "group", "aria-label": t("presets") }, ...presets), threshold.element,
    el("div", { class: "line" }, el("span", { class: "label" }, t("steps")), first, el("span", { "aria-hidden": "true" }, "–"), last));

  const element = el("li", { class: "card", onpointerenter: () => stage.focus(index), onpointerleave: () => stage.focus(null) },
    el("div", { class: "head" }, handle, kind, mute, drop), el("div", { class: "words" }, all, old, arrow, fresh),
    caption, note, idle, scale.element,
    el("div", { class: "line" }, where, swatch, everywhere), fine);
  let index = 0;

  function update(edit, at) {
    index = at;
    element.classList.toggle("muted", edit.muted);
    element.classList.toggle("painting", brush.edit === key);
    element.setAttribute("aria-label", `${t(edit.kind)} ${named(edit)}`);
    kind.value = edit.kind;
    old.hidden = edit.kind === "add" || edit.kind === "become";
    fresh.hidden = edit.kind === "remove";
    arrow.hidden = edit.kind !== "swap";
    all.hidden = edit.kind !== "become";
    for (const [input, value, hint] of [[old, edit.old, HINTS[edit.kind][0]], [fresh, edit.new, HINTS[edit.kind][1]]]) {
      if (input !== document.activeElement) input.value = value;
      input.placeholder = hint ? t(hint) : "";
    }
    const label = t(edit.muted ? "unmute" : "mute");
    mute.replaceChildren(icon(edit.muted ? "eye-off" : "eye"));
    mute.setAttribute("aria-label", label);
    mute.setAttribute("aria-pressed", String(edit.muted));
    mute.title = label;
    const normal = usual(edit);
    scale.update(edit.scale, normal, 0, Math.max(3 * normal, edit.scale ?? 0));
    threshold.update(edit.threshold, locates() ? null : defaults[`${edit.kind === "swap" ? "swap_new" : edit.kind}_threshold`] ?? 0.8, 0, 0.99);
    presets.forEach((chip, k) => chip.setAttribute("aria-pressed", String(edit.threshold === PRESETS[k][1])));
    first.value = edit.first ?? "";
    last.value = edit.last ?? "";
    const region = edit.regions[work.now.active];
    where.replaceChildren(icon("brush"), t(brush.edit === key ? "done" : region ? "repaint" : "paint"));
    swatch.hidden = everywhere.hidden = !region;
    if (region) swatch.src = region;
    const after = captioned() && edit.kind !== "become" && whole(edit) ? targets.of(edit) : null;
    caption.hidden = after === null;
    if (target !== document.activeElement) target.value = after ?? "";
    const reason = engine.result(work.picture)?.idle[work.now.edits.filter(whole).indexOf(edit)] ?? null;
    idle.hidden = reason === null;
    if (reason) idle.textContent = why(reason);
    report(note, `${edit.old} ${edit.new}`, (word, strange) => {
      const name = edit.old.toLowerCase().includes(strange) ? "old" : "new";
      set({ [name]: edit[name].replace(new RegExp(strange, "i"), word) });
    });
  }
  return { element, update };
}

/** A slider with its value; null is the model's own value, to which a double click goes back. */
function slider(label, id, step, change, reset, title = "") {
  const input = el("input", {
    type: "range", id, step: String(step),
    oninput: () => change(Number(input.value), true), onchange: () => change(Number(input.value), false), ondblclick: reset,
  });
  const number = el("output", { for: id });
  const auto = el("button", { class: "auto", type: "button", "aria-label": t("as_model", { name: label }), title: t("as_model", { name: label }), onclick: reset }, icon("reset"));
  const element = el("div", { class: "line slider", title }, el("label", { class: "label", for: id }, label), input, number, auto);
  function update(value, normal, least, most) {
    input.min = String(least);
    input.max = String(most);
    const shown = value ?? normal;
    if (input !== document.activeElement || value === null || Number(input.value) !== value) input.value = String(shown ?? (least + most) / 2);
    input.style.setProperty("--filled", `${(100 * (Number(input.value) - least)) / (most - least)}%`);
    number.textContent = value === null ? (normal === null ? t("auto") : normal.toFixed(step < 0.1 ? 2 : 1)) : value.toFixed(step < 0.1 ? 2 : 1);
    input.setAttribute("aria-valuetext", value === null ? t("as_model_value", { value: number.textContent }) : number.textContent);
    auto.classList.toggle("unset", value === null);
    auto.tabIndex = value === null ? -1 : 0;
  }
  return { element, update };
}

/** Drag a card to another place among the cards. */
function drag(event, key, element) {
  const from = event.clientY;
  const middles = [...$("stack").children].map((card) => [card, card.getBoundingClientRect()]).map(([card, box]) => [card, (box.top + box.bottom) / 2]);
  const at = middles.findIndex(([card]) => card === element);
  let to = at;
  const moved = (now) => {
    const middle = middles[at][1] + now.clientY - from;
    to = middles.filter(([card, other]) => card !== element && other < middle).length;
    element.style.transform = `translateY(${now.clientY - from}px)`;
    element.classList.add("dragged");
  };
  const done = () => {
    element.style.transform = "";
    element.classList.remove("dragged");
    document.removeEventListener("pointermove", moved);
    document.removeEventListener("pointercancel", done);
    if (to !== at) move(key, to - at);
  };
  document.addEventListener("pointermove", moved);
  document.addEventListener("pointerup", done, { once: true });
  document.addEventListener("pointercancel", done);
}
