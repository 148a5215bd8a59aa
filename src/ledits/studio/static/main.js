// The page: what happens when something is clicked, dropped or answered.
import * as api from "./api.js";
import { $, drawIcons, el, say, toast } from "./dom.js";
import { brush } from "./brush.js";
import { engine } from "./engine.js";
import * as files from "./files.js";
import * as keys from "./keys.js";
import * as sheet from "./sheet.js";
import * as stack from "./stack.js";
import { stage } from "./stage.js";
import * as strips from "./strips.js";
import * as words from "./words.js";
import { work } from "./work.js";

let about = { models: {}, samples: [], picture: null };
let showing = null; // the key of the picture on the stage
const captioned = () => Boolean(work.picture?.caption.trim());
const choose = () => $("file").click();

async function start() {
  drawIcons();
  stage.start();
  brush.start();
  stack.start({ captioned });
  sheet.start();
  strips.start(choose);
  keys.start(choose);
  listen();
  about = await api.get("/studio.json");
  settings();
  await model();
  $("samples").hidden = !about.samples.length;
  document.querySelector(".sample-row").append(...about.samples.map((sample) => el("button", {
    class: "sample", title: sample.caption, "aria-label": `Sample: ${sample.caption}`, onclick: () => openSample(sample),
  }, el("img", { src: sample.url, alt: "" }))));
  if (location.hash.length > 1) await files.reopen(location.hash.slice(1));
  else if (about.picture) await files.addPicture(await api.blob(about.picture.url), about.picture.name, about.picture.caption);
  draw();
}

async function openSample(sample) {
  await files.addPicture(await api.blob(sample.url), `${sample.name}.png`, sample.caption);
}

function listen() {
  work.addEventListener("change", ({ detail }) => {
    draw();
    engine.update(detail.live);
    if (!detail.live) remember();
  });
  engine.addEventListener("busy", ({ detail }) => progress(detail));
  engine.addEventListener("failed", ({ detail }) => {
    toast(detail.message, { error: true });
    say(detail.message);
  });
  engine.addEventListener("result", ({ detail }) => {
    if (detail.fresh) say(`Done in ${detail.result.seconds.toFixed(1)} seconds, ${detail.result.evaluations} network evaluations`);
    $("save").disabled = !work.picture;
  });
  engine.addEventListener("inverted", async ({ detail }) => {
    remember();
    draw();
    const file = engine.files.get(detail.picture.key);
    if (file.width) return;
    const seen = await engine.seen(detail.picture);
    Object.assign(file, { url: URL.createObjectURL(seen), width: detail.inversion.width, height: detail.inversion.height });
    draw();
  });
  $("choose").addEventListener("click", choose);
  $("open").addEventListener("click", choose);
  $("file").addEventListener("change", async () => {
    await files.open($("file").files);
    $("file").value = "";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    files.open(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => event.clipboardData.files.length && files.open(event.clipboardData.files));
  $("undo").addEventListener("click", () => work.undo());
  $("redo").addEventListener("click", () => work.redo());
  $("stop").addEventListener("click", () => engine.cancel());
  $("theme").addEventListener("click", theme);
  $("caption").addEventListener("change", () => work.change((next) => {
    next.pictures.find(({ key }) => key === next.active).caption = $("caption").value;
  }));
  $("caption").addEventListener("keydown", (event) => event.key === "Enter" && $("caption").blur());
  $("composite").addEventListener("change", () => work.change((next) => { next.composite = $("composite").checked; }));
  $("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    instruct($("instruction").value);
  });
  $("link").addEventListener("click", async () => {
    await remember();
    await navigator.clipboard.writeText(location.href);
    toast("Link copied: it opens this work again");
  });
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", async () => {
      $("save-menu").hidePopover();
      try {
        await files.save(button.dataset.save);
      } catch (error) {
        toast(error.message, { error: true });
      }
    });
  }
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close("no"));
  }
  window.addEventListener("hashchange", () => location.hash.slice(1) !== written && location.reload());
  theme.now = localStorage.getItem("ledits-theme");
  if (theme.now) document.documentElement.dataset.theme = theme.now;
}

/** Read a sentence or the grammar into cards. */
async function instruct(text) {
  const note = $("compose-note");
  note.hidden = true;
  if (!text.trim()) return;
  try {
    const { edits } = await api.post("/v1/parse", { text, source: work.picture?.caption ?? "", model: work.now.settings.model });
    stack.add(edits.map(files.fromServer));
    $("instruction").value = "";
  } catch (error) {
    note.textContent = error.message;
    note.hidden = false;
  }
}

function draw() {
  const { picture } = work;
  const file = picture && engine.files.get(picture.key);
  document.body.classList.toggle("empty", !picture);
  if (!picture) stage.close();
  else if (file.url && showing !== file.url) stage.open(file.url, file.width, file.height);
  showing = picture ? file.url : null;
  const inversion = engine.inversion(picture);
  $("name").textContent = picture ? `${picture.name}${file.width ? ` · ${file.width} × ${file.height}` : ""}` : "";
  $("picture-note").hidden = inversion?.suits !== false;
  $("undo").disabled = !work.canUndo;
  $("redo").disabled = !work.canRedo;
  $("link").disabled = !inversion;
  $("save").disabled = !picture;
  $("sheet-button").disabled = !picture || !engine.request(picture);
  if (document.activeElement !== $("caption")) $("caption").value = picture?.caption ?? "";
  words.report($("caption-note"), picture?.caption ?? "", (word, strange) => work.change((next) => {
    const changed = next.pictures.find(({ key }) => key === next.active);
    changed.caption = changed.caption.replace(new RegExp(strange, "i"), word);
  }));
  $("composite").checked = work.now.composite;
  for (const input of document.querySelectorAll("#advanced [data-setting]")) input.value = work.now.settings[input.dataset.setting] ?? "";
  suggest(picture);
}

function suggest(picture) {
  const sample = about.samples.find(({ caption }) => caption === picture?.caption.trim());
  const offers = work.now.edits.length || !picture ? [] : sample?.edits ?? (words.things().length ? [] : ["+sunglasses", "turn it into a pencil sketch"]);
  $("suggestions").replaceChildren(...offers.map((text) => el("button", {
    class: "chip", type: "button", onclick: () => instruct(text),
  }, text.replaceAll("->", " → ").trim())));
  $("suggestions").hidden = !offers.length;
}

function progress(busy) {
  $("progress").hidden = !busy;
  if (!busy) return;
  const text = busy.kind === "invert" ? "Inverting" : "Editing";
  $("progress-text").textContent = text;
  if (busy.done) $("progress-bar").value = busy.done / busy.total;
  else $("progress-bar").removeAttribute("value");
  if (busy.done === 0 || busy.done === busy.total) say(`${text}: ${busy.done} of ${busy.total}`);
}

function settings() {
  const fields = [["steps", "Steps", { min: 1, step: 1 }], ["skip", "Skip", { min: 0, max: 0.95, step: 0.05 }], ["seed", "Seed", { min: 0, step: 1 }]];
  const names = Object.keys(about.models);
  const change = (event) => {
    const { value, dataset: { setting } } = event.target;
    work.change((next) => { next.settings[setting] = value === "" ? null : setting === "model" ? value : Number(value); });
    if (setting === "model") model();
  };
  const inputs = fields.map(([name, label, limits]) => el("label", { class: "field" }, el("span", {}, label),
    el("input", { type: "number", placeholder: "auto", "data-setting": name, ...Object.fromEntries(Object.entries(limits).map(([k, v]) => [k, String(v)])), onchange: change })));
  if (names.length > 1) {
    inputs.unshift(el("label", { class: "field wide" }, el("span", {}, "Model"),
      el("select", { "data-setting": "model", onchange: change }, ...names.map((name, k) => el("option", { value: k ? name : "" }, name)))));
  }
  document.querySelector("#advanced .grid").append(...inputs);
}

async function model() {
  const name = work.now.settings.model ?? Object.keys(about.models)[0];
  stack.use(about.models[name] ?? {});
  await words.learn(work.now.settings.model);
}

function theme() {
  const dark = theme.now ? theme.now === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme.now = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme.now;
  localStorage.setItem("ledits-theme", theme.now);
}

let written = location.hash.slice(1);
/** The address is always a link to the work, so that a reload opens it again. */
async function remember() {
  const link = await files.link();
  if (!link || link === written) return;
  written = link;
  window.history.replaceState(null, "", `#${link}`);
}

start().catch((error) => toast(error.message, { error: true }));
