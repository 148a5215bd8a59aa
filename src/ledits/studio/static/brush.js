// Where an edit acts: painted with a brush, a box or an eraser, or selected by a click, at the picture's size.
//
// A region is a grey picture, white where the edit may act. Strokes are joined by the lighter of two values and erased by
// the darker, so that going over a soft edge twice doesn't harden it.
import { post } from "./api.js";
import { $, radios, toast } from "./dom.js";
import { engine } from "./engine.js";
import { stage, tint } from "./stage.js";
import { t } from "./texts.js";
import { work } from "./work.js";

class Brush {
  edit = null; // the key of the edit whose region is painted
  tool = "brush";
  sees = false; // whether the server finds the thing under a click
  #mask = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  #from = null;
  #saved = null; // the mask before a stroke

  start() {
    this.#setTool = radios($("brush-bar"), "tool", (tool) => this.choose(tool));
    $("region-done").addEventListener("click", () => this.end());
    $("region-invert").addEventListener("click", () => this.#whole("difference"));
    $("region-clear").addEventListener("click", () => { this.#fill("#000"); this.#commit(); });
    $("region-export").addEventListener("click", () => {
      const link = Object.assign(document.createElement("a"), { href: this.#mask.canvas.toDataURL("image/png"), download: "region.png" });
      link.click();
    });
    $("region-import").addEventListener("click", () => $("region-file").click());
    $("region-file").addEventListener("change", async () => {
      const [file] = $("region-file").files;
      if (!file) return;
      this.#mask.drawImage(await createImageBitmap(file), 0, 0, stage.width, stage.height);
      $("region-file").value = "";
      this.#commit();
    });
    for (const id of ["brush-size", "brush-soft"]) $(id).addEventListener("input", () => this.#ring(null));
    work.addEventListener("change", () => this.edit && this.#load());
  }

  choose(tool) {
    this.tool = tool;
    this.#setTool(tool);
    $("stage").dataset.tool = tool;
    const size = $("brush-size").previousElementSibling;
    size.dataset.t = tool === "wand" ? "tolerance" : "size";
    size.textContent = t(size.dataset.t);
  }

  begin(edit) {
    this.edit = edit;
    this.choose(this.tool);
    $("brush-bar").hidden = $("region").hidden = false;
    stage.use(this);
    this.#load();
    $("stage").focus({ preventScroll: true });
    document.dispatchEvent(new CustomEvent("painting"));
  }

  end() {
    this.edit = null;
    $("brush-bar").hidden = $("region").hidden = $("brush-ring").hidden = true;
    stage.use(null);
    document.dispatchEvent(new CustomEvent("painting"));
  }

  size(by) {
    $("brush-size").value = Number($("brush-size").value) + by;
    this.#ring(null);
  }

  down(event) {
    this.#from = stage.pixel(event);
    this.#saved = this.#mask.getImageData(0, 0, stage.width, stage.height);
    if (this.tool === "wand") {
      if (!this.sees) this.#select(this.#from);
    } else if (this.tool !== "box") this.#stroke(this.#from, this.#from);
  }

  move(event, pressed) {
    this.#ring(event);
    if (!pressed || !this.#from || this.tool === "wand") return;
    const to = stage.pixel(event);
    if (this.tool === "box") {
      this.#mask.putImageData(this.#saved, 0, 0);
      this.#box(this.#from, to);
    } else {
      this.#stroke(this.#from, to);
      this.#from = to;
    }
  }

  up() {
    const at = this.#from;
    if (!at) return;
    this.#from = null;
    if (this.tool === "wand" && this.sees) this.#find(at);
    else this.#commit();
  }

  cancel() {
    if (this.#from) this.#mask.putImageData(this.#saved, 0, 0);
    this.#from = null;
    this.#draw();
  }

  get #radius() {
    // From one pixel to two fifths of the shorter side, finer at the small end.
    return 0.5 + (Number($("brush-size").value) / 100) ** 2 * 0.4 * Math.min(stage.width, stage.height) + 0.01 * stage.width;
  }

  get #soft() { return Number($("brush-soft").value) / 100; }

  #stroke(from, to) {
    const radius = this.#radius;
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(0.5, radius / 4)));
    const erases = this.tool === "erase";
    const [inside, outside] = erases ? ["#000", "#fff"] : ["#fff", "#000"];
    this.#mask.globalCompositeOperation = erases ? "darken" : "lighten";
    for (let k = 0; k <= steps; k += 1) {
      const x = from.x + (to.x - from.x) * k / steps;
      const y = from.y + (to.y - from.y) * k / steps;
      const shade = this.#mask.createRadialGradient(x, y, radius * (1 - this.#soft), x, y, radius + 0.01);
      shade.addColorStop(0, inside);
      shade.addColorStop(1, outside);
      this.#mask.fillStyle = shade;
      this.#mask.beginPath();
      this.#mask.arc(x, y, radius, 0, 2 * Math.PI);
      this.#mask.fill();
    }
    this.#draw(Math.min(from.x, to.x) - radius, Math.min(from.y, to.y) - radius, Math.max(from.x, to.x) + radius, Math.max(from.y, to.y) + radius);
  }

  #box(from, to) {
    const [x, y] = [Math.min(from.x, to.x), Math.min(from.y, to.y)].map(Math.round);
    const [right, bottom] = [Math.max(from.x, to.x), Math.max(from.y, to.y)].map(Math.round);
    const edge = Math.round(this.#soft * 0.12 * Math.min(stage.width, stage.height));
    this.#mask.globalCompositeOperation = "lighten";
    for (let k = edge; k >= 0; k -= 1) {
      this.#mask.fillStyle = `rgb(${Array(3).fill(Math.round(255 * (1 - k / (edge + 1)))).join()})`;
      this.#mask.fillRect(x - k, y - k, right - x + 2 * k, bottom - y + 2 * k);
    }
    this.#draw();
  }

  /** Add what is connected with a place and looks like it; the larger the tolerance, the more may differ. */
  #select(at) {
    const { width, height } = stage;
    const picture = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    picture.drawImage($("before"), 0, 0, width, height);
    const { data } = picture.getImageData(0, 0, width, height);
    const apart = (a, b) => Math.abs(data[4 * a] - data[4 * b]) + Math.abs(data[4 * a + 1] - data[4 * b + 1]) + Math.abs(data[4 * a + 2] - data[4 * b + 2]);
    const start = Math.floor(at.y) * width + Math.floor(at.x);
    if (at.x < 0 || at.y < 0 || at.x >= width || at.y >= height) return;
    const most = 6 + 2.5 * Number($("brush-size").value);
    // A gradient is followed a little at a time, up to three times as far as a step may differ from the start.
    const found = flood([start], width, height, (next, here) => apart(next, start) <= most || (apart(next, here) <= 10 && apart(next, start) <= 3 * most));
    // What reaches no side of the picture is a thing, and what lies within it, such as eyes, belongs to it.
    const sides = Array.from(found.keys()).filter((k) => k < width || k >= found.length - width || k % width === 0 || k % width === width - 1);
    const thing = !sides.some((k) => found[k]);
    const around = thing ? flood(sides, width, height, (next) => !found[next]) : null;
    const selected = picture.createImageData(width, height);
    for (let k = 0; k < found.length; k += 1) if (found[k] || (thing && !around[k])) selected.data.fill(255, 4 * k, 4 * k + 4);
    picture.putImageData(selected, 0, 0);
    // The edge of what is seen is a blend of both sides: a selection reaches a little over it.
    const edge = Math.max(1, Math.round(0.006 * Math.max(width, height)));
    this.#mask.globalCompositeOperation = "lighten";
    for (const filter of ["none", `blur(${this.#soft * 0.04 * Math.min(width, height)}px)`]) {
      this.#mask.filter = filter;
      for (const [dx, dy] of [[0, 0], [edge, 0], [-edge, 0], [0, edge], [0, -edge]]) this.#mask.drawImage(picture.canvas, dx, dy);
    }
    this.#mask.filter = "none";
    this.#draw();
  }

  /** Add the thing under a place, which the server finds. */
  async #find(at) {
    const { edit } = this;
    const { active } = work.now;
    const form = engine.form(active);
    form.append("point", `${Math.floor(at.x)},${Math.floor(at.y)}`);
    const image = new Image();
    try {
      image.src = `data:image/png;base64,${(await post("/v1/regions", form)).region}`;
      await image.decode();
    } catch (error) {
      toast(error.message);
      return;
    }
    if (this.edit !== edit || work.now.active !== active) return;
    this.#mask.globalCompositeOperation = "lighten";
    this.#mask.drawImage(image, 0, 0);
    this.#draw();
    this.#commit();
  }

  #whole(operation) {
    this.#fill("#fff", operation);
    this.#commit();
  }

  #fill(colour, operation = "source-over") {
    this.#mask.globalCompositeOperation = operation;
    this.#mask.fillStyle = colour;
    this.#mask.fillRect(0, 0, stage.width, stage.height);
  }

  /** Take up the region that the work has for the edit. */
  async #load() {
    const edit = work.now.edits.find(({ key }) => key === this.edit);
    if (!edit) return this.end();
    const region = edit.regions[work.now.active];
    let image = null;
    if (region) {
      image = new Image();
      image.src = region;
      await image.decode();
    }
    Object.assign(this.#mask.canvas, { width: stage.width, height: stage.height });
    this.#fill("#000");
    if (image) this.#mask.drawImage(image, 0, 0);
    this.#draw();
  }

  /** Give the region to the work; an empty one lets the edit act everywhere. */
  #commit() {
    const { data } = this.#mask.getImageData(0, 0, stage.width, stage.height);
    let used = false;
    for (let k = 0; k < data.length && !used; k += 4) used = data[k] > 127;
    const picture = work.now.active;
    const png = used ? this.#mask.canvas.toDataURL("image/png") : null;
    work.change((next) => {
      const edit = next.edits.find(({ key }) => key === this.edit);
      if (png) edit.regions[picture] = png;
      else delete edit.regions[picture];
    });
  }

  /** Show a part of the region over the picture, all of it without arguments. */
  #draw(left = 0, top = 0, right = stage.width, bottom = stage.height) {
    const canvas = $("region");
    if (canvas.width !== stage.width || canvas.height !== stage.height) Object.assign(canvas, { width: stage.width, height: stage.height });
    const x = Math.max(0, Math.floor(left));
    const y = Math.max(0, Math.floor(top));
    const width = Math.min(stage.width, Math.ceil(right)) - x;
    const height = Math.min(stage.height, Math.ceil(bottom)) - y;
    if (width < 1 || height < 1) return;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.#mask.canvas, x, y, width, height, x, y, width, height);
    tint(context, x, y, width, height);
  }

  #ring(event) {
    const ring = $("brush-ring");
    ring.hidden = !this.edit || this.tool === "box" || this.tool === "wand" || event?.pointerType === "touch";
    const side = 2 * this.#radius * stage.scale;
    ring.style.width = ring.style.height = `${side}px`;
    if (!event) return;
    const box = $("stage").getBoundingClientRect();
    ring.style.transform = `translate(${event.clientX - box.left - side / 2}px, ${event.clientY - box.top - side / 2}px)`;
  }

  #setTool = () => {};
}

/** What is reached from some pixels, a step to a neighbour at a time, where `may(to, from)` lets it pass. */
function flood(from, width, height, may) {
  const reached = new Uint8Array(width * height);
  const open = [...from];
  for (const k of open) reached[k] = 1;
  while (open.length) {
    const here = open.pop();
    const x = here % width;
    for (const next of [x > 0 && here - 1, x < width - 1 && here + 1, here - width, here + width]) {
      if (next === false || next < 0 || next >= reached.length || reached[next] || !may(next, here)) continue;
      reached[next] = 1;
      open.push(next);
    }
  }
  return reached;
}

export const brush = new Brush();
