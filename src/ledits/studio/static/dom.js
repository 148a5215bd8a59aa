// Small helpers around the page's elements.
import { t } from "./texts.js";

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; "on…" are listeners, the rest are attributes. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const PATHS = {
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3", redo: "m15 14 5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  theme: "M12 3a9 9 0 1 0 9 9c-5 1-10-3-9-9z", link: "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 6 6l1-1",
  open: "M3 7v11a2 2 0 0 0 2 2h14a2 2 0 0 0 2-2V9a2 2 0 0 0-2-2h-7l-2-3H5a2 2 0 0 0-2 2z", save: "M12 3v12m-5-5 5 5 5-5M4 20h16",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.500 9.200h.01", split: "M9 7l-4 5 4 5M15 7l4 5-4 5", close: "M6 6l12 12M18 6 6 18",
  brush: "M20 4 10 14M8 13c-3 0-4 2-4 4 0 1-1 2-2 2 3 2 8 1 8-3 0-1-1-3-2-3z", box: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4",
  erase: "m7 20-4-4L14 5l6 6-9 9zM7 20h13M9 10l6 6", invert: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18", trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  mask: "M4 5h16v14H4zM9 12a3 3 0 1 0 6 0 3 3 0 1 0-6 0", minus: "M5 12h14", plus: "M12 5v14M5 12h14",
  pixels: "M4 4h16v16H4zM12 4v16M4 12h16M4 8h8M8 4v8M12 16h8M16 12v8", grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM9 12a3 3 0 1 0 6 0 3 3 0 1 0-6 0", "eye-off": "M3 3l18 18M6 7c-3 2-4 5-4 5s4 7 10 7c2 0 4-1 5-2M10 5l2 0c6 0 10 7 10 7l-2 3",
  drag: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01", keyboard: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M8 14h8", more: "M5 11.500a.5.5 0 1 0 .01 0zM12 11.500a.5.5 0 1 0 .01 0zM19 11.500a.5.5 0 1 0 .01 0z", copy: "M9 9h11v11H9zM5 15H4V4h11v1", forward: "M4 12h15m-6-6 6 6-6 6",
  wand: "M4 20 14 10M17 3v4M15 5h4M20 10v4M18 12h4M9 4v2M8 5h2", dice: "M4 4h16v16H4zM8.500 8.500h.01M15.500 8.500h.01M8.500 15.500h.01M15.500 15.500h.01M12 12h.01",
  reset: "M4 12a8 8 0 1 0 3-6L4 8M4 3v5h5",
};

/** An outline icon; what it means is said by the label of the button around it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

export function drawIcons(root = document) {
  for (const place of root.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
}

/** A sentence that goes by itself; errors stay longer. */
export function toast(text, { error = false, action = null } = {}) {
  const note = el("div", { class: error ? "toast error" : "toast" }, el("span", {}, text));
  const gone = () => note.remove();
  if (action) note.append(el("button", { class: "button small", onclick: () => { gone(); action.run(); } }, action.label));
  note.append(el("button", { class: "icon-button small", "aria-label": t("dismiss"), onclick: gone }, icon("close")));
  $("toasts").append(note);
  setTimeout(gone, error ? 12000 : 5000);
}

/** A question with two answers; true for the second. With `secret` it is the text that was typed, or null. */
export function ask(title, text, yes, no, secret = false) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-no").textContent = no;
  $("ask-input").hidden = !secret;
  $("ask-input").value = "";
  $("ask").returnValue = "no";
  $("ask").showModal();
  return new Promise((resolve) => $("ask").addEventListener("close", () => {
    const agreed = $("ask").returnValue === "yes";
    resolve(secret ? (agreed ? $("ask-input").value : null) : agreed);
  }, { once: true }));
}

export const say = (text) => { $("status").textContent = text; };

/** Choose one of a group of radio buttons made of buttons; arrow keys move as they do among native ones. */
export function radios(group, attribute, choose) {
  const buttons = [...group.querySelectorAll("[role=radio]")];
  const set = (value) => {
    for (const button of buttons) {
      const on = button.dataset[attribute] === value;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset[attribute]));
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const open = buttons.filter((button) => !button.disabled);
    const next = open[(open.indexOf(document.activeElement) + by + open.length) % open.length];
    next.focus();
    next.click();
  });
  return set;
}

/** Base64, as JSON carries files, as a Blob. */
export function blobOf(base64, type) {
  return new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type });
}
