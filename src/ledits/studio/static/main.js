// The page: what happens when something is clicked, dropped or answered.
import * as api from "./api.js";
import { $, drawIcons, el, say, toast } from "./dom.js";
import { brush } from "./brush.js";
import { engine } from "./engine.js";
import * as files from "./files.js";
import * as keys from "./keys.js";
import * as loras from "./loras.js";
import * as sheet from "./sheet.js";
import * as stack from "./stack.js";
import { stage } from "./stage.js";
import * as strips from "./strips.js";
import * as targets from "./targets.js";
import * as texts from "./texts.js";
import * as words from "./words.js";
import { whole, work } from "./work.js";

const { t } = texts;
// For photographs: the same in the README.
const COMMAND = "ledits studio --model stable-diffusion-v1-5/stable-diffusion-v1-5";
let about = { models: {}, loras: {}, samples: [], picture: null };
let showing = null; // the key of the picture on the stage
const captioned = () => Boolean(work.picture?.caption.trim());
const choose = () => $("file").click();

async function start() {
  await texts.speak();
  drawIcons();
  stage.start();
  brush.start();
  stack.start({ captioned });
  sheet.start();
  strips.start(choose);
  keys.start(choose);
  menu();
  listen();
  document.body.classList.add("ready");
  about = await ready();
  settings();
  await model();
  samples();
  await seeing();
  if (location.hash.length > 1) await files.reopen(location.hash.slice(1));
  else if (about.picture) await files.addPicture(await api.blob(about.picture.url), about.picture.name, about.picture.caption);
  document.addEventListener("language", () => { samples(); settings(); work.again(); });
  draw();
}

/** What the server has, as soon as its model is loaded: the page is there before. */
async function ready() {
  for (;;) {
    const said = await api.get("/studio.json");
    $("loading").hidden = !said.loading;
    if (!said.loading) {
      api.begin();
      return said;
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** Whether the server can see: it writes captions and selects by a click, where the models for that were fetched. */
async function seeing() {
  const can = await api.get("/v1/seeing").catch(() => ({}));
  Object.assign(about, { describes: Boolean(can.captions) });
  brush.sees = Boolean(can.clicks);
}

async function describe() {
  const { key } = work.picture;
  $("describe").disabled = true;
  try {
    const { caption } = await api.post("/v1/captions", engine.form(key));
    work.change((next) => Object.assign(next.pictures.find((picture) => picture.key === key) ?? {}, { caption }));
  } catch (error) {
    toast(error.message);
  } finally {
    $("describe").disabled = false;
  }
}

function samples() {
  $("samples").hidden = !about.samples.length;
  document.querySelector(".sample-row").replaceChildren(...about.samples.map((sample) => el("button", {
    class: "sample", title: sample.caption, "aria-label": t("sample", { caption: sample.caption }), onclick: () => openSample(sample),
  }, el("img", { src: sample.url, alt: "" }))));
  $("small-model").hidden = !words.small();
}

async function openSample(sample) {
  await files.addPicture(await api.blob(sample.url), `${sample.name}.png`, sample.caption);
  // The button that had the focus is gone: the keyboard goes on at the picture.
  $("stage").focus({ preventScroll: true });
}

function listen() {
  work.addEventListener("change", ({ detail }) => {
    $("stack-note").hidden = true;
    draw();
    engine.update(detail.live);
    if (!detail.live) remember();
  });
  engine.addEventListener("busy", ({ detail }) => progress(detail));
  engine.addEventListener("failed", ({ detail }) => {
    // What is wrong with the edits is said beside them, until they are others.
    if (detail.status === 400) {
      Object.assign($("stack-note"), { textContent: missing() ?? detail.message, hidden: false });
      $("stack-note").scrollIntoView({ block: "nearest" });
    } else toast(detail.message, { error: true });
    say(detail.message);
  });
  engine.addEventListener("blocked", () => {
    draw();
    $("blocked").scrollIntoView({ block: "nearest" });
  });
  engine.addEventListener("result", ({ detail }) => {
    if (detail.fresh) say(t("done_in", { seconds: detail.result.seconds.toFixed(1), evaluations: detail.result.evaluations }));
    draw();
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
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", !strips.drags());
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (!strips.drags()) files.open(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => event.clipboardData.files.length && files.open(event.clipboardData.files));
  document.addEventListener("copy", (event) => {
    if (event.target.matches("input, textarea") || !getSelection().isCollapsed || !work.picture) return;
    event.preventDefault();
    save("copy");
  });
  $("undo").addEventListener("click", () => work.undo());
  $("redo").addEventListener("click", () => work.redo());
  $("stop").addEventListener("click", () => engine.cancel());
  $("anyway").addEventListener("click", () => work.change((next) => {
    next.pictures.find(({ key }) => key === next.active).anyway = true;
  }));
  $("caption").addEventListener("change", () => work.change((next) => {
    next.pictures.find(({ key }) => key === next.active).caption = $("caption").value;
  }));
  $("describe").addEventListener("click", describe);
  $("caption").addEventListener("keydown", (event) => event.key === "Enter" && $("caption").blur());
  // Who goes on to the edit has left the caption out: now is the time to prepare the picture.
  $("instruction").addEventListener("focus", () => engine.prepare());
  $("composite").addEventListener("change", () => work.change((next) => { next.composite = $("composite").checked; }));
  $("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    instruct($("instruction").value);
  });
  $("continue").addEventListener("click", async () => {
    await files.goOn();
    toast(t("went_on"));
    $(work.picture.caption ? "instruction" : "caption").focus();
  });
  $("link").addEventListener("click", async () => {
    await remember();
    await navigator.clipboard.writeText(location.href);
    toast(t("link_copied"));
  });
  for (const place of document.querySelectorAll(".command")) {
    Object.assign(place.querySelector("code"), { textContent: COMMAND });
    place.querySelector("button").addEventListener("click", async () => {
      await navigator.clipboard.writeText(COMMAND);
      toast(t("command_copied"));
    });
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => {
      $("save-menu").hidePopover();
      save(button.dataset.save);
    });
  }
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close("no"));
  }
  window.addEventListener("hashchange", () => location.hash.slice(1) !== written && location.reload());
}

/** In plain words, that an edit names a thing which the caption doesn't; null where that is not what is wrong. */
function missing() {
  const caption = work.picture.caption.trim();
  const said = (edit) => caption.toLowerCase().includes(edit.old.trim().toLowerCase());
  const edit = caption && work.now.edits.find((one) => whole(one) && !one.muted && ["remove", "swap"].includes(one.kind) && !said(one) && targets.of(one) === null);
  return edit ? t("not_in_caption", { word: edit.old.trim(), caption, field: t("caption") }) : null;
}

async function save(what) {
  try {
    await files.save(what);
  } catch (error) {
    toast(error.message, { error: true });
  }
}

/** Light or dark, the language, and the page as an app of its own. */
function menu() {
  $("theme").addEventListener("click", theme);
  theme.now = localStorage.getItem("ledits-theme");
  if (theme.now) document.documentElement.dataset.theme = theme.now;
  $("language").append(...Object.entries(texts.LANGUAGES).map(([value, name]) => el("option", { value, lang: value }, name)));
  $("language").value = texts.language();
  $("language").addEventListener("change", () => texts.choose($("language").value));
  window.addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    $("install").hidden = false;
    $("install").addEventListener("click", () => event.prompt(), { once: true });
  });
  window.addEventListener("appinstalled", () => { $("install").hidden = true; });
  navigator.serviceWorker?.register("sw.js").catch(() => { /* an address that is not this machine's: no app, no loss */ });
}

/** Read a sentence or the grammar into cards. */
async function instruct(text) {
  const note = $("compose-note"), field = $("instruction");
  note.hidden = true;
  if (!text.trim()) return;
  field.value = ""; // at once: what is typed meanwhile stays, and a second Enter adds nothing twice
  try {
    const { edits } = await api.post("/v1/parse", { text, source: work.picture?.caption ?? "", model: work.now.settings.model });
    stack.add(edits.map(files.fromServer));
  } catch (error) {
    field.value ||= text;
    note.textContent = error.code === "unknown_instruction" ? t("not_understood", { text }) : error.message;
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
  $("blocked").hidden = inversion?.suits !== false || Boolean(picture.anyway);
  $("undo").disabled = !work.canUndo;
  $("redo").disabled = !work.canRedo;
  $("describe").hidden = !picture || !about.describes;
  $("link").disabled = !inversion;
  $("save").disabled = !picture;
  $("sheet-button").disabled = $("variations-button").disabled = !picture || !engine.request(picture);
  $("continue").disabled = !picture || !engine.result(picture);
  if (document.activeElement !== $("caption")) $("caption").value = picture?.caption ?? "";
  words.report($("caption-note"), picture?.caption ?? "", (word, strange) => work.change((next) => {
    const changed = next.pictures.find(({ key }) => key === next.active);
    changed.caption = changed.caption.replace(new RegExp(strange, "i"), word);
  }));
  $("composite").checked = work.now.composite;
  for (const input of document.querySelectorAll("#advanced [data-setting]")) input.value = work.now.settings[input.dataset.setting] ?? "";
  loras.show(about.loras[inUse()]);
  suggest(picture);
}

function suggest(picture) {
  const sample = about.samples.find(({ caption }) => caption === picture?.caption.trim());
  const usual = words.small() ? [] : [["+sunglasses", t("suggest_sunglasses")], ["turn it into a pencil sketch", t("suggest_sketch")]];
  const offers = work.now.edits.length || !picture ? [] : sample?.edits.map((text) => [text, plain(text)]) ?? usual;
  $("suggestions").replaceChildren(...offers.map(([text, shown]) => el("button", { class: "chip", type: "button", onclick: () => instruct(text) }, shown)));
  $("suggestions").hidden = !offers.length;
}

/** The grammar as words: values are left out, and an arrow is drawn. */
function plain(text) {
  return text.replaceAll(/@[\d.]+/g, "").replace(/^\+(.*)/, (_, thing) => t("suggest_add", { thing })).replace(/^->/, "").replaceAll("->", " → ");
}

function progress(busy) {
  $("progress").hidden = !busy;
  if (!busy) return;
  const { kind, done, total } = busy;
  $("progress-text").textContent = kind === "edit" ? t(done ? "drawing" : "finding", { done, total }) : t(done ? "preparing_of" : "preparing", { done, total });
  if (done) $("progress-bar").value = done / total;
  else $("progress-bar").removeAttribute("value");
  if (!done || done === total) say($("progress-text").textContent);
}

function settings() {
  const fields = [["steps", { min: 1, step: 1 }], ["skip", { min: 0, max: 0.95, step: 0.05 }], ["seed", { min: 0, step: 1 }]];
  const names = Object.keys(about.models);
  const change = (event) => {
    const { value, dataset: { setting } } = event.target;
    work.change((next) => {
      next.settings[setting] = value === "" ? null : setting === "model" ? value : Number(value);
      if (setting === "model") next.settings.use_lora = null; // they are another model's
    });
    if (setting === "model") {
      model();
      settings();
    }
  };
  const inputs = fields.map(([name, limits]) => el("label", { class: "field" }, el("span", {}, t(name)),
    el("input", { type: "number", placeholder: t("auto"), "data-setting": name, ...Object.fromEntries(Object.entries(limits).map(([k, v]) => [k, String(v)])), onchange: change })));
  if (names.length > 1) {
    inputs.unshift(el("label", { class: "field wide" }, el("span", {}, t("model")),
      el("select", { "data-setting": "model", onchange: change }, ...names.map((name, k) => el("option", { value: k ? name : "" }, name)))));
  }
  document.querySelector("#advanced .grid").replaceChildren(...inputs, ...loras.fields(about.loras[inUse()]));
}

const inUse = () => work.now.settings.model ?? Object.keys(about.models)[0];

async function model() {
  stack.use(about.models[inUse()] ?? {});
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
