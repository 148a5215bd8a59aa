// The work: pictures, edits and switches, as one value that is replaced as a whole. Undo and redo go over all of it.
//
// What the server made of it (inversions, results) is not in here: engine.js keeps that by what it was made from.

const EMPTY = { pictures: [], active: null, edits: [], composite: true, settings: { model: null, steps: null, skip: null, seed: null, use_lora: null } };

let serial = 0;
export const newKey = () => `${Date.now().toString(36)}${(serial++).toString(36)}`;

export const newEdit = (kind, values = {}) => ({
  key: newKey(), kind, old: "", new: "", scale: null, threshold: null, first: null, last: null, muted: false,
  regions: {}, // by picture: a PNG as a data URL, white where the edit may act
  ...values,
});

/** Whether an edit says all that its kind needs. */
export const whole = (edit) => (edit.kind === "add" || edit.kind === "become" || edit.old.trim())
  && (edit.kind === "remove" || edit.new.trim());

/** The edit in the grammar of the command line, without its values. */
export const named = (edit) => ({ add: `+${edit.new}`, remove: `-${edit.old}`, swap: `${edit.old}→${edit.new}`, become: `→${edit.new}` })[edit.kind];

class Work extends EventTarget {
  now = EMPTY;
  #past = [];
  #future = [];
  #before = null; // what a drag began from

  get picture() { return this.now.pictures.find((picture) => picture.key === this.now.active) ?? null; }
  get canUndo() { return this.#past.length > 0; }
  get canRedo() { return this.#future.length > 0; }

  /** Replace the work by `change` of a copy. Changes while something is dragged (`live`) are one for undo. */
  change(change, { live = false } = {}) {
    const next = structuredClone(this.now);
    change(next);
    const from = this.#before ?? this.now;
    this.#before = live ? from : null;
    if (!live && JSON.stringify(next) !== JSON.stringify(from)) {
      this.#past = [...this.#past.slice(-199), from];
      this.#future = [];
    }
    this.#set(next, live);
  }

  edit(key, values, options) {
    this.change((next) => Object.assign(next.edits.find((edit) => edit.key === key) ?? {}, values), options);
  }

  undo() { this.#travel(this.#past, this.#future); }
  redo() { this.#travel(this.#future, this.#past); }
  /** Go to an earlier state; that is a change too, and can be undone. */
  restore(snapshot) { this.change((next) => Object.assign(next, structuredClone(snapshot))); }
  /** Have all of it drawn again: the language has changed. */
  again() { this.#set(this.now, false); }
  /** Begin with this, without a way back. */
  begin(snapshot) { this.#set(snapshot, false); }

  #travel(from, to) {
    if (!from.length) return;
    to.push(this.now);
    this.#set(from.pop(), false);
  }

  #set(next, live) {
    this.now = next;
    this.dispatchEvent(new CustomEvent("change", { detail: { live } }));
  }
}

export const work = new Work();
