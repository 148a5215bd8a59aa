// The words that a model of a small world knows: an unknown one is said to be unknown, with those that are known.
import * as api from "./api.js";
import { $, el } from "./dom.js";
import { t } from "./texts.js";

let known = null; // {words: Set, things: [...]}, or null for a model that knows any
/** Whether the model draws a small world alone, and so no photograph. */
export const small = () => known !== null;
export const things = () => known?.things ?? [];

export async function learn(model) {
  const { words, things: named } = await api.get(`/v1/words${model ? `?model=${encodeURIComponent(model)}` : ""}`);
  known = words && { words: new Set(words), things: named };
  $("known-words").replaceChildren(...things().map((word) => el("option", { value: word })));
}

export const unknown = (text) => (known ? [...new Set(text.toLowerCase().match(/\p{L}+/gu) ?? [])].filter((word) => !known.words.has(word)) : []);

/** Say which words of `text` are unknown, in `note`; each known one can be taken by a click. */
export function report(note, text, take) {
  const strange = unknown(text);
  note.hidden = !strange.length;
  if (!strange.length) return;
  const list = strange.map((word) => `“${word}”`).join(", ");
  note.replaceChildren(
    el("span", {}, t("unknown_word", { words: list })),
    el("span", { class: "known" }, ...nearest(strange[0]).map((word) => el("button", { class: "word", type: "button", onclick: () => take(word, strange[0]) }, word))),
  );
}

/** All things that are known, those that are spelled alike first. */
function nearest(word) {
  const pairs = (text) => new Set(Array.from(text.slice(1), (_, k) => text.slice(k, k + 2)));
  const wanted = pairs(word);
  const alike = (thing) => [...pairs(thing)].filter((pair) => wanted.has(pair)).length;
  return [...things()].sort((a, b) => alike(b) - alike(a));
}
