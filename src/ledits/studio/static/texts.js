// The page's texts, in one language at a time: each language is one file in texts/, with the same names in each.

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文", ar: "العربية" };
const RIGHT_TO_LEFT = ["ar"];
const KEPT = "ledits-language";
let texts = {};

/** The language that was chosen, else the first of the browser's that there is. */
export const language = () => localStorage.getItem(KEPT)
  ?? navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => tag in LANGUAGES) ?? "en";

/** Take a language up: fetch its file and put its texts into the page's elements. */
export async function speak(chosen = language()) {
  texts = await (await fetch(`texts/${chosen}.json`)).json();
  Object.assign(document.documentElement, { lang: chosen, dir: RIGHT_TO_LEFT.includes(chosen) ? "rtl" : "ltr" });
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) {
    const { label, keys } = element.dataset;
    element.setAttribute("aria-label", t(label));
    // What is seen of a button may be an icon alone, and hands rest on a mouse.
    if (element.matches("button")) element.title = keys ? `${t(label)} (${keys})` : t(label);
  }
  for (const [name, attribute] of [["title", "title"], ["hint", "placeholder"], ["alt", "alt"]]) {
    for (const element of document.querySelectorAll(`[data-t-${name}]`)) element.setAttribute(attribute, t(element.getAttribute(`data-t-${name}`)));
  }
  document.dispatchEvent(new CustomEvent("language"));
}

export function choose(chosen) {
  localStorage.setItem(KEPT, chosen);
  return speak(chosen);
}

/** A text by its name, with its {values} filled in. */
export const t = (name, values = {}) => (texts[name] ?? name).replace(/\{(\w+)\}/g, (_, value) => values[value]);

export const has = (name) => name in texts;
