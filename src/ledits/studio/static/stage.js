// The picture on the screen: zoom, pan, before and after, the masks over it.
import { $, radios } from "./dom.js";
import { engine } from "./engine.js";
import { work } from "./work.js";

const MARGIN = 28;
const MOST = 64; // screen pixels for one of the picture's

class Stage extends EventTarget {
  view = "after";
  masks = false;
  crisp = null; // true, false, or null for what fits the zoom
  width = 0; // of the picture
  height = 0;
  #scale = 1;
  #x = 0;
  #y = 0;
  #fitted = true;
  #split = 0.5;
  #pointers = new Map();
  #preview = null;
  #held = false;
  tool = null; // takes pointer events in the picture's pixels, while a region is painted

  start() {
    this.#setView = radios($("view-bar"), "view", (view) => this.show(view));
    this.#setView(this.view);
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.#place())).observe($("stage"));
    const stage = $("stage");
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const at = this.#at(event);
      if (event.ctrlKey || Math.abs(event.deltaY) >= Math.abs(event.deltaX)) this.zoom(Math.exp(-event.deltaY / 320), at.x, at.y);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("dblclick", () => this.tool ?? this.fit());
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (!step || event.target !== stage) return;
      event.preventDefault();
      this.#pan(...step);
    });
    $("divider").addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.#split - 0.02, ArrowRight: this.#split + 0.02, Home: 0, End: 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.#divide(to);
    });
    $("zoom-in").addEventListener("click", () => this.zoom(1.5));
    $("zoom-out").addEventListener("click", () => this.zoom(1 / 1.5));
    $("zoom-fit").addEventListener("click", () => this.fit());
    $("masks").addEventListener("click", () => this.toggleMasks());
    $("crisp").addEventListener("click", () => this.toggleCrisp());
    engine.addEventListener("preview", ({ detail }) => this.#after(detail.url, true));
    engine.addEventListener("result", ({ detail }) => this.#after(detail.result?.url ?? null, false));
  }

  /** Show another picture. */
  open(url, width, height) {
    $("before").src = url;
    this.#after(null, false); // what is there is another picture's
    Object.assign(this, { width, height });
    $("welcome").hidden = true;
    $("stage").hidden = $("view-bar").hidden = false;
    this.fit();
    this.#refresh();
  }

  close() {
    $("welcome").hidden = false;
    $("stage").hidden = $("view-bar").hidden = true;
  }

  show(view) {
    this.view = view;
    this.#setView(view);
    this.#refresh();
  }

  /** The original, as long as a key is held. */
  hold(on) {
    if (this.#held === on) return;
    this.#held = on;
    this.#refresh();
  }

  toggleMasks() {
    this.masks = !this.masks;
    $("masks").setAttribute("aria-pressed", String(this.masks));
    this.#refresh();
  }

  toggleCrisp() {
    this.crisp = !this.#sharp();
    this.#place();
  }

  fit() {
    const { clientWidth: w, clientHeight: h } = $("stage");
    if (!w || !this.width) return;
    this.#fitted = true;
    this.#scale = this.#fitting();
    this.#x = (w - this.width * this.#scale) / 2;
    this.#y = this.#above() + (h - this.#above() - this.#below() - this.height * this.#scale) / 2;
    this.#place();
  }

  zoom(factor, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2) {
    const least = Math.min(this.#fitting(), 1) / 2;
    const scale = Math.max(least, Math.min(MOST, this.#scale * factor));
    this.#x = x - (x - this.#x) * scale / this.#scale;
    this.#y = y - (y - this.#y) * scale / this.#scale;
    this.#scale = scale;
    this.#fitted = false;
    this.#place();
  }

  /** One of the picture's pixels in a screen's, and a place on the screen in the picture's pixels. */
  get scale() { return this.#scale; }
  pixel(event) {
    const at = this.#at(event);
    return { x: (at.x - this.#x) / this.#scale, y: (at.y - this.#y) / this.#scale };
  }

  #fitting() {
    const { clientWidth: w, clientHeight: h } = $("stage");
    return Math.max(0.01, Math.min((w - 2 * MARGIN) / this.width, (h - this.#above() - this.#below()) / this.height));
  }

  /** Room for the brush's buttons, and for the view's. */
  #above() { return this.tool ? 76 : MARGIN; }
  #below() { return $("stage").clientWidth < 700 ? 72 : 88; }

  #sharp() { return this.crisp ?? (this.#scale >= 4 && this.#scale > 1.3 * this.#fitting()); }

  #place() {
    const paper = $("paper").style;
    paper.width = `${this.width * this.#scale}px`;
    paper.height = `${this.height * this.#scale}px`;
    paper.transform = `translate(${this.#x}px, ${this.#y}px)`;
    $("paper").classList.toggle("crisp", this.#sharp());
    $("crisp").setAttribute("aria-pressed", String(this.#sharp()));
    $("zoom-fit").textContent = `${Math.round(this.#scale * 100)}%`;
    this.#clip();
  }

  #refresh() {
    const has = Boolean($("after").getAttribute("src"));
    // What is painted on is the original: a preview that comes and goes would be in the way.
    const view = this.#held || this.tool ? "before" : this.view;
    const compares = view === "compare" && has && !this.tool;
    $("divider").hidden = $("tag-before").hidden = $("tag-after").hidden = !compares;
    $("after").hidden = view === "before" || (!has && view !== "rebuilt");
    $("overlay").hidden = !this.masks || view === "before" || Boolean(this.tool);
    if (!$("overlay").hidden) this.#drawMasks();
    if (view === "rebuilt") this.#showRebuilt();
    else if ($("after").dataset.url) this.#source($("after").dataset.url);
    $("view-bar").classList.toggle("painting", Boolean(this.tool));
    this.#clip();
    this.dispatchEvent(new Event("view"));
  }

  async #showRebuilt() {
    try {
      const url = await engine.rebuilt(work.picture);
      if (this.view === "rebuilt" && !this.#held) this.#source(url);
      $("after").hidden = this.#held;
    } catch { /* the failed inversion is said elsewhere */ }
  }

  #source(url) { if ($("after").getAttribute("src") !== url) $("after").src = url; }

  #after(url, preview) {
    const image = $("after");
    const old = this.#preview;
    this.#preview = preview ? url : null;
    image.classList.toggle("preview", preview);
    if (url) {
      image.dataset.url = url;
      if (this.view === "rebuilt" || this.view === "before") this.show("after");
      image.src = url;
    } else {
      delete image.dataset.url;
      image.removeAttribute("src");
    }
    if (old && old !== url) setTimeout(() => URL.revokeObjectURL(old), 500);
    this.#refresh();
  }

  async #drawMasks() {
    const canvas = $("overlay");
    const masks = engine.masks.map((mask, k) => (this.only === null || this.only === k ? mask : null)).filter(Boolean);
    const images = await Promise.all(masks.map(async (mask) => {
      const image = new Image();
      image.src = `data:image/png;base64,${mask}`;
      await image.decode();
      return image;
    }));
    canvas.width = this.width;
    canvas.height = this.height;
    if (!images.length) return;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "lighten";
    for (const image of images) context.drawImage(image, 0, 0, this.width, this.height);
    tint(context, 0, 0, this.width, this.height);
  }

  only = null; // the index of the one edit whose mask is shown
  focus(index) {
    if (this.only === index) return;
    this.only = index;
    if (this.masks) this.#refresh();
  }

  #clip() {
    const stage = $("stage").clientWidth;
    const at = this.#split * stage;
    $("divider").style.left = `${at}px`;
    $("divider").setAttribute("aria-valuenow", Math.round(this.#split * 100));
    const left = Math.max(0, Math.min(1, (at - this.#x) / (this.width * this.#scale || 1)));
    const clip = $("divider").hidden ? "none" : `inset(0 0 0 ${left * 100}%)`;
    $("after").style.clipPath = $("overlay").style.clipPath = clip;
  }

  #divide(to) {
    this.#split = Math.max(0.02, Math.min(0.98, to));
    this.#clip();
  }

  #pan(dx, dy) {
    const { clientWidth: w, clientHeight: h } = $("stage");
    const keep = (at, size, room) => Math.max(60 - size, Math.min(room - 60, at));
    this.#x = keep(this.#x + dx, this.width * this.#scale, w);
    this.#y = keep(this.#y + dy, this.height * this.#scale, h);
    this.#fitted = false;
    this.#place();
  }

  #at(event) {
    const box = $("stage").getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button > 1) return;
    this.#pointers.set(event.pointerId, { ...this.#at(event), divides: Boolean(event.target.closest("#divider")) });
    $("stage").setPointerCapture(event.pointerId);
    if (this.#pointers.size === 2) this.tool?.cancel();
    else if (this.tool && event.button === 0) this.tool.down(event);
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    const now = this.#at(event);
    if (!before || (this.tool && this.#pointers.size === 1 && event.buttons !== 4)) {
      this.tool?.move(event, Boolean(before));
      return;
    }
    if (before.divides) this.#divide(now.x / $("stage").clientWidth);
    else if (this.#pointers.size === 2) this.#pinch(event.pointerId, now);
    else this.#pan(now.x - before.x, now.y - before.y);
    Object.assign(before, now);
  }

  #pinch(id, now) {
    const [other] = [...this.#pointers].filter(([key]) => key !== id).map(([, value]) => value);
    const before = this.#pointers.get(id);
    const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y);
    this.#pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoom(apart(now) / (apart(before) || 1), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  #up(event) {
    const was = this.#pointers.delete(event.pointerId);
    if (was && this.tool && !this.#pointers.size) this.tool.up(event);
  }

  /** Give pointer events in the picture to a tool, or take them back. */
  use(tool) {
    this.tool = tool;
    $("stage").classList.toggle("painting", Boolean(tool));
    if (this.#fitted) this.fit();
    this.#refresh();
  }

  #setView = () => {};
}

/** Grey levels of a canvas become the accent colour, more opaque where they are lighter. */
export function tint(context, x, y, width, height) {
  const pixels = context.getImageData(x, y, width, height);
  const { data } = pixels;
  for (let k = 0; k < data.length; k += 4) {
    const light = data[k];
    [data[k], data[k + 1], data[k + 2], data[k + 3]] = [124, 92, 255, light * 0.62];
  }
  context.putImageData(pixels, x, y);
}

export const stage = new Stage();
