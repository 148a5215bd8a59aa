// The caption after an edit, as the network is told it: the server writes it, from words alone.
import { post } from "./api.js";
import { whole, work } from "./work.js";

const known = new Map(); // of a caption and an edit -> the caption after it, null where no rule is certain, or a promise
let drawn = () => {};

export function start(draw) { drawn = draw; }

const grammar = ({ kind, old, new: fresh }) => ({ add: `+${fresh.trim()}`, remove: `-${old.trim()}`, swap: `${old.trim()}->${fresh.trim()}`, become: `->${fresh.trim()}` })[kind];

function ask(edits) {
  const { picture, now: { settings: { model } } } = work;
  return post("/v1/parse", { text: edits.map(grammar).join("; "), source: picture.caption.trim(), model }).catch(() => ({ targets: null, target: null }));
}

/** The caption after one edit alone; null until it is known, and where there is none. */
export function of(edit) {
  const key = JSON.stringify([work.picture.caption.trim(), work.now.settings.model, grammar(edit)]);
  if (!known.has(key)) {
    known.set(key, null);
    ask([edit]).then(({ targets }) => {
      if (targets?.length !== 1) return;
      known.set(key, targets[0]);
      drawn();
    });
  }
  return known.get(key);
}

/** The caption after all edits that act; nothing where it is not known. */
export async function afterAll() {
  const edits = work.now.edits.filter((edit) => whole(edit) && !edit.muted);
  if (!work.picture.caption.trim()) return "";
  return (await ask(edits)).target ?? "";
}
