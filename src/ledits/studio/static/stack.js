// The edit stack: a card for each edit, in the order in which they act.
import { $, el, icon } from "./dom.js";
import { brush } from "./brush.js";
import { stage } from "./stage.js";
import { named, newEdit, work } from "./work.js";
import { report } from "./words.js";

const KINDS = { add: "Add", remove: "Remove", swap: "Swap", become: "Rewrite" };
const HINTS = { add: ["", "a crown"], remove: ["the hat", ""], swap: ["cat", "dog"], become: ["", "a cat in the snow"] };
// The share of the picture that is left alone: a style changes half of it, a face's feature a twentieth.
const PRESETS = [["Everything", 0], ["Style", 0.5], ["Object", 0.9], ["Face", 0.95]];

const cards = new Map();
let defaults = {}; // of the model
let captioned = () => false;

export function start(options) {
  ({ captioned } = options);
  work.addEventListener("change", () => draw());
  document.addEventListener("painting", () => draw());
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
  card.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  if (focus) card.element.querySelector(".words input:not([hidden])").focus();
}

export function remove(key) {
  const at = work.now.edits.findIndex((edit) => edit.key === key);
  work.change((next) => next.edits.splice(at, 1));
  const next = work.now.edits[Math.min(at, work.now.edits.length - 1)];
  (next ? cards.get(next.key).element.querySelector(".words input:not([hidden])") : $("instruction")).focus();
}

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

  const kind = el("select", { "aria-label": "Kind of edit", onchange: () => set({ kind: kind.value }) },
    ...Object.entries(KINDS).map(([value, text]) => el("option", { value }, text)));
  const words = (name, label) => el("input", {
    "aria-label": label, spellcheck: "false", autocomplete: "off", maxlength: "300", list: "known-words",
    onchange: (event) => set({ [name]: event.target.value }),
    onkeydown: (event) => event.key === "Enter" && event.target.blur(),
  });
  const old = words("old", "What goes");
  const fresh = words("new", "What comes");
  const arrow = el("span", { class: "arrow", "aria-hidden": "true" }, "→");
  const note = el("p", { class: "note", role: "alert", hidden: true });

  const handle = el("button", {
    class: "handle", type: "button", "aria-label": "Move this edit: arrow keys, or drag", title: "Drag to reorder",
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
  const drop = el("button", { class: "icon-button small", type: "button", "aria-label": "Delete this edit", title: "Delete", onclick: () => remove(key) }, icon("trash"));

  const scale = slider("Strength", id("scale"), 0.1, (value, live) => set({ scale: value }, live), () => set({ scale: null }));
  const threshold = slider("Focus", id("threshold"), 0.01, (value, live) => set({ threshold: value }, live), () => set({ threshold: null }),
    "The share of the picture that is left alone");
  const step = (name, label) => el("input", {
    type: "number", min: "0", "aria-label": label, placeholder: name === "first" ? "first" : "last",
    onchange: (event) => set({ [name]: event.target.value === "" ? null : Math.max(0, Math.round(Number(event.target.value))) }),
  });
  const first = step("first", "First step");
  const last = step("last", "Last step");
  const presets = PRESETS.map(([name, value]) => el("button", { class: "chip small", type: "button", onclick: () => set({ threshold: value }) }, name));

  const swatch = el("img", { class: "swatch", alt: "Region of this edit" });
  const where = el("button", { class: "button small where", type: "button", onclick: () => (brush.edit === key ? brush.end() : brush.begin(key)) });
  const everywhere = el("button", {
    class: "icon-button small", type: "button", "aria-label": "Let this edit act everywhere", title: "Act everywhere",
    onclick: () => { const { [work.now.active]: _, ...regions } = now().regions; set({ regions }); },
  }, icon("reset"));
  const fine = el("details", { class: "fine" }, el("summary", {}, "Fine-tune"),
    el("div", { class: "presets", role: "group", "aria-label": "Presets" }, ...presets), threshold.element,
    el("div", { class: "line" }, el("span", { class: "label" }, "Steps"), first, el("span", { "aria-hidden": "true" }, "–"), last));

  const element = el("li", { class: "card", onpointerenter: () => stage.focus(index), onpointerleave: () => stage.focus(null) },
    el("div", { class: "head" }, handle, kind, el("div", { class: "words" }, old, arrow, fresh), mute, drop),
    note, scale.element,
    el("div", { class: "line" }, where, swatch, everywhere), fine);
  let index = 0;

  function update(edit, at) {
    index = at;
    element.classList.toggle("muted", edit.muted);
    element.classList.toggle("painting", brush.edit === key);
    element.setAttribute("aria-label", `${KINDS[edit.kind]} ${named(edit)}`);
    kind.value = edit.kind;
    old.hidden = edit.kind === "add" || edit.kind === "become";
    fresh.hidden = edit.kind === "remove";
    arrow.hidden = edit.kind !== "swap" && edit.kind !== "become";
    for (const [input, value, hint] of [[old, edit.old, HINTS[edit.kind][0]], [fresh, edit.new, HINTS[edit.kind][1]]]) {
      if (input !== document.activeElement) input.value = value;
      input.placeholder = hint;
    }
    const label = edit.muted ? "Unmute this edit" : "Mute this edit";
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
    where.replaceChildren(icon("brush"), brush.edit === key ? "Done" : region ? "Change region" : "Paint where");
    swatch.hidden = everywhere.hidden = !region;
    if (region) swatch.src = region;
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
  const auto = el("button", { class: "auto", type: "button", "aria-label": `${label}: as the model has it`, title: "As the model has it", onclick: reset }, icon("reset"));
  const element = el("div", { class: "line slider", title }, el("label", { class: "label", for: id }, label), input, number, auto);
  function update(value, normal, least, most) {
    input.min = String(least);
    input.max = String(most);
    const shown = value ?? normal;
    if (input !== document.activeElement || value === null || Number(input.value) !== value) input.value = String(shown ?? (least + most) / 2);
    input.style.setProperty("--filled", `${(100 * (Number(input.value) - least)) / (most - least)}%`);
    number.textContent = value === null ? (normal === null ? "auto" : normal.toFixed(step < 0.1 ? 2 : 1)) : value.toFixed(step < 0.1 ? 2 : 1);
    input.setAttribute("aria-valuetext", value === null ? `${number.textContent}, as the model has it` : number.textContent);
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
