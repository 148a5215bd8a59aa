// The LoRAs that the model was loaded with: how strongly each of them acts in this work. A field that is empty leaves
// its LoRA as it was loaded, and 0 leaves it out.
import { el } from "./dom.js";
import { work } from "./work.js";

/** What the server is asked for by the weights in the fields, by name; null where all are as they were loaded. */
export function chosen(loaded, weights) {
  if (Object.values(weights).every((weight) => weight === null)) return null;
  const acting = Object.entries(loaded).map(([name, usual]) => [name, weights[name] ?? usual]).filter(([, weight]) => weight);
  return acting.map(([name, weight]) => `${name}:${weight}`).join(", ") || "none";
}

/** The weights that a choice gives to those that are loaded; null where it leaves one as it was loaded. */
export function weights(loaded, choice) {
  const given = Object.fromEntries((choice ?? "").split(",").map((part) => {
    const [, name, weight] = part.trim().match(/^(.*?)(?::([^:]*))?$/);
    return [name, weight ? Number(weight) : loaded[name]];
  }));
  return Object.fromEntries(Object.keys(loaded).map((name) => [name, choice ? given[name] ?? 0 : null]));
}

/** A field for each LoRA of the model in use. */
export function fields(loaded = {}) {
  const change = (event) => {
    const { value, dataset: { lora } } = event.target;
    const now = weights(loaded, work.now.settings.use_lora);
    work.change((next) => { next.settings.use_lora = chosen(loaded, { ...now, [lora]: value === "" ? null : Number(value) }); });
  };
  return Object.entries(loaded).map(([name, weight]) => el("label", { class: "field wide" }, el("span", {}, `LoRA ${name}`),
    el("input", { type: "number", step: "0.1", min: "-100", max: "100", placeholder: String(weight), "data-lora": name, onchange: change })));
}

/** Fill the fields with what is chosen now. */
export function show(loaded = {}) {
  const now = weights(loaded, work.now.settings.use_lora);
  for (const input of document.querySelectorAll("[data-lora]")) input.value = now[input.dataset.lora] ?? "";
}
