// What the server is asked for: an inversion for each picture, then edits on it. The latest change wins.
//
// Results are kept by what they were made from, so that undo and history show them at once.
import { blob, events } from "./api.js";
import { blobOf } from "./dom.js";
import { whole, work } from "./work.js";

const DRAFT = 8; // steps of an edit while a slider is dragged
const KEPT = 60; // results

class Engine extends EventTarget {
  files = new Map(); // a picture's key -> {blob, url, width, height}
  masks = []; // of the result that is shown, data URLs in the order of the edits
  shown = null; // the result that is shown: {url, masks, recipe, seconds, evaluations, request}
  #inversions = new Map(); // what it is made from -> the server's account of it
  #inverting = new Map(); // a picture's key -> {from, promise, controller}
  #results = new Map();
  #rebuilt = new Map();
  #running = null;
  #next = false; // a change that waits for a draft's first preview
  #asked = new Set(); // keys of pictures that are prepared though nobody has said what they show

  inversionKey(picture, { model, steps, skip, seed, use_lora = null } = work.now.settings) {
    return JSON.stringify([picture.key, picture.caption.trim(), model, steps, skip, seed, use_lora]);
  }

  inversion(picture) { return picture && this.#inversions.get(this.inversionKey(picture)); }
  remember(picture, inversion, settings) { this.#inversions.set(this.inversionKey(picture, settings), inversion); }

  /** The body of an edit request for a picture; null where nothing is to be done. */
  request(picture) {
    const edits = work.now.edits.filter(whole).map((edit) => ({
      kind: edit.kind, old: edit.old.trim(), new: edit.new.trim(), scale: edit.scale, threshold: edit.threshold,
      first: edit.first, last: edit.last, region: edit.regions[picture.key] ?? null, muted: edit.muted,
    }));
    if (!edits.some((edit) => !edit.muted)) return null;
    return { edits, composite: work.now.composite };
  }

  /** A result by what it was made from, as long as it is kept. */
  kept(key) { return this.#results.get(key); }
  resultKey(picture, request) { return JSON.stringify([this.inversionKey(picture), request]); }
  result(picture) {
    const request = picture && this.request(picture);
    return request && this.#results.get(this.resultKey(picture, request));
  }

  /** Bring what is shown up to date with the work. `live`: something is being dragged, so a draft will do. */
  async update(live = false) {
    const picture = work.picture;
    if (!picture) return this.#show(null);
    const request = this.request(picture);
    // A caption changes the inversion, so that it waits for the caption or for whatever shows that there will be none.
    if (request || picture.caption.trim() || this.#asked.has(picture.key) || !this.files.get(picture.key).width) {
      // Where an edit waits for it, the edit says what went wrong.
      this.invert(picture).catch((error) => request ?? this.#failed(error));
    }
    if (!request) {
      this.stop();
      return this.#show(null);
    }
    const key = this.resultKey(picture, request);
    const kept = this.#results.get(key);
    if (kept) {
      this.stop();
      return this.#show(kept);
    }
    if (this.#running?.key === key && this.#running.live === live) return undefined;
    if (live && this.#running?.live && !this.#running.seen) {
      this.#next = true; // its preview is nearly there, and a drag would never show one otherwise
      return undefined;
    }
    return this.#run(picture, request, key, live);
  }

  /** Prepare the picture as it is. */
  prepare() {
    if (!work.picture || this.#asked.has(work.picture.key)) return;
    this.#asked.add(work.picture.key);
    this.update();
  }

  /** End the edit that runs. */
  stop() {
    this.#running?.controller.abort();
    this.#running = null;
    this.#next = false;
    if (!this.#inverting.size) this.#busy(null);
  }

  /** End the edit and the inversions too. */
  cancel() {
    this.stop();
    for (const { controller } of this.#inverting.values()) controller.abort();
  }

  /** The inversion of a picture, made where it is not there yet; a new caption ends the old one's. */
  invert(picture) {
    const from = this.inversionKey(picture);
    if (this.#inversions.has(from)) return Promise.resolve(this.#inversions.get(from));
    const underway = this.#inverting.get(picture.key);
    if (underway?.from === from) return underway.promise;
    underway?.controller.abort();
    const controller = new AbortController();
    const promise = this.#invert(picture, from, controller.signal).finally(() => {
      if (this.#inverting.get(picture.key)?.from === from) this.#inverting.delete(picture.key);
    });
    this.#inverting.set(picture.key, { from, promise, controller });
    return promise;
  }

  /** A form with a picture's file. */
  form(key) {
    const form = new FormData();
    form.append("image", this.files.get(key).blob, "picture");
    return form;
  }

  async #invert(picture, from, signal, settings = work.now.settings) {
    const form = this.form(picture.key);
    form.append("source", picture.caption.trim());
    for (const [name, value] of Object.entries(settings)) if (value !== null) form.append(name, value);
    this.#busy({ kind: "invert", picture: picture.key, done: 0, total: 1 });
    try {
      for await (const [name, data] of events("/v1/inversions", form, signal)) {
        if (name === "progress") this.#busy({ kind: "invert", picture: picture.key, ...data });
        if (name === "done") {
          this.#inversions.set(from, data.inversion);
          this.dispatchEvent(new CustomEvent("inverted", { detail: { picture, inversion: data.inversion } }));
        }
      }
    } finally {
      if (!this.#running || signal.aborted) this.#busy(null);
    }
    return this.#inversions.get(from);
  }

  async #run(picture, request, key, live) {
    this.#running?.controller.abort();
    const run = { key, live, controller: new AbortController(), seen: false, done: null };
    this.#running = run;
    this.#next = false;
    run.done = this.#go(picture, request, run);
    return run.done;
  }

  async #go(picture, request, run) {
    const { key, live } = run;
    const current = () => this.#running === run;
    try {
      const inversion = await this.#allowed(picture);
      if (!current()) return;
      if (!live) this.#busy({ kind: "edit", done: 0 });
      const draft = live ? Math.min(DRAFT, inversion.steps) : null;
      // Where the draft of this very edit is shown, previews would be a step back.
      const previews = this.shown?.draft !== key;
      const result = await this.#edit(inversion.id, { ...request, draft, previews }, run.controller.signal, (step) => {
        if (!current()) return;
        if (!live) this.#busy({ kind: "edit", done: step.i, total: step.n });
        if (!step.preview) return;
        run.seen = true;
        const url = URL.createObjectURL(blobOf(step.preview, "image/jpeg"));
        this.dispatchEvent(new CustomEvent("preview", { detail: { url } }));
        if (this.#next) this.update(true);
      });
      if (!current()) return;
      this.#running = null;
      if (!live) {
        this.#keep(key, result);
        this.#busy(null);
      }
      this.#show({ ...result, draft: live && key }, { fresh: !live });
      if (this.#next) this.update(true);
    } catch (error) {
      if (!current()) return;
      this.#running = null;
      this.#busy(null);
      this.#failed(error);
    }
  }

  /** The inversion for an edit. Where the model can't draw the picture, somebody has to want it all the same. */
  async #allowed(picture) {
    const inversion = await this.invert(picture);
    if (inversion.suits === false && !picture.anyway) {
      this.dispatchEvent(new Event("blocked"));
      throw new DOMException("the picture does not suit the model", "AbortError");
    }
    return inversion;
  }

  async #edit(id, body, signal, step) {
    let result = null;
    for await (const [name, data] of events(`/v1/inversions/${id}/edits`, body, signal)) {
      if (name === "step") step(data);
      if (name === "done") result = data;
    }
    const image = blobOf(result.image, "image/png");
    return {
      blob: image, url: URL.createObjectURL(image), masks: result.masks, idle: result.idle, recipe: result.recipe,
      seconds: result.seconds, evaluations: result.network_evaluations,
    };
  }

  /** The result for any picture of the work, not shown: for several pictures with one stack. */
  async editOther(picture) {
    const request = this.request(picture);
    const key = this.resultKey(picture, request);
    if (this.#running?.key === key && !this.#running.live) await this.#running.done;
    if (!this.#results.has(key)) {
      const inversion = await this.#allowed(picture);
      const { signal } = new AbortController();
      this.#busy({ kind: "edit", done: 0 });
      this.#keep(key, await this.#edit(inversion.id, { ...request, previews: false }, signal, (step) => this.#busy({ kind: "edit", done: step.i, total: step.n })));
      this.#busy(null);
    }
    return this.#results.get(key);
  }

  /** The result with another seed, which takes an inversion of its own. */
  async variation(picture, seed, signal) {
    const settings = { ...work.now.settings, seed };
    const request = this.request(picture);
    const from = this.inversionKey(picture, settings);
    const key = JSON.stringify([from, request]);
    if (!this.#results.has(key)) {
      if (!this.#inversions.has(from)) await this.#invert(picture, from, signal, settings);
      this.#keep(key, await this.#edit(this.#inversions.get(from).id, { ...request, previews: false }, signal, () => signal.throwIfAborted()));
    }
    return this.#results.get(key);
  }

  /** The picture as the server sees it, for formats that a browser doesn't show. */
  async seen(picture) { return blob(`/v1/inversions/${this.inversion(picture).id}/picture`); }

  async rebuilt(picture) {
    const inversion = await this.invert(picture);
    if (!this.#rebuilt.has(inversion.id)) {
      this.#rebuilt.set(inversion.id, URL.createObjectURL(await blob(`/v1/inversions/${inversion.id}/reconstruction`)));
    }
    return this.#rebuilt.get(inversion.id);
  }

  #keep(key, result) {
    this.#results.set(key, result);
    if (this.#results.size > KEPT) this.#results.delete(this.#results.keys().next().value);
  }

  #show(result, { fresh = false } = {}) {
    this.shown = result;
    this.masks = result?.masks ?? [];
    this.dispatchEvent(new CustomEvent("result", { detail: { result, fresh } }));
  }

  #busy(detail) { this.dispatchEvent(new CustomEvent("busy", { detail })); }
  #failed(error) { if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failed", { detail: error })); }
}

export const engine = new Engine();
